"""With InternLM's tokenizers: the ids that upstream's make of the whole prompt, begun by `<s>`."""

from pathlib import Path

from backend.conversation import Conversation
from backend.prompt.encoding import SHORT, STRETCH
from tests.backend.checkpoint.folders import change_json
from tests.backend.checkpoint.recorded_pieces import Recorded
from tests.backend.prompt.pictures import composer_of
from tests.backend.prompt.test_compose import CASES, KINDS, conversation_of

CONVERSATIONS = [(case["kind"], conversation_of(case)) for case in CASES]
CONVERSATIONS += [(kind, Conversation(turns)) for kind, turns in KINDS.items()]


def unfold(ids: list[int], context: int) -> tuple[int, ...]:
    """Recorded ids, in which -N stands for N context tokens."""
    return tuple(one for n in ids for one in ([n] if n >= 0 else [context] * -n))


def test_every_prompt_has_the_ids_that_upstream_gives(recorded: Recorded, tmp_path: Path):
    composer = composer_of(recorded.write_checkpoint(tmp_path / "checkpoint"))
    context = composer.tokens.special("<IMG_CONTEXT>")
    for case, (kind, conversation) in zip(recorded.prompts, CONVERSATIONS, strict=True):
        assert case["kind"] == kind
        prompt = composer.compose(conversation)
        assert prompt.text == "<s>" + case["prompt"]
        assert prompt.ids == unfold(case["ids"], context), case["kind"]
        assert composer.measure(conversation) == prompt.budget
        assert prompt.budget.total == len(prompt.ids)


def test_no_sign_comes_before_a_prompt_where_upstream_puts_none(recorded: Recorded, tmp_path: Path):
    folder = recorded.write_checkpoint(tmp_path / "checkpoint")
    change_json(folder / "tokenizer_config.json", add_bos_token=False)
    prompt = composer_of(folder).compose(CONVERSATIONS[0][1])
    assert prompt.text == recorded.prompts[0]["prompt"]
    assert prompt.ids == tuple(recorded.without)


def test_an_engine_elsewhere_begins_by_itself(recorded: Recorded, tmp_path: Path):
    composer = composer_of(recorded.write_checkpoint(tmp_path / "checkpoint"))
    conversation = CONVERSATIONS[0][1]
    assert composer.compose(conversation).pieces == composer_of().compose(conversation).pieces


def test_a_long_text_is_not_cut_where_tokens_may_reach_across(recorded: Recorded, tmp_path: Path):
    composer = composer_of(recorded.write_checkpoint(tmp_path / "checkpoint"))
    text = "words and lines\nof words " * (2 * STRETCH // 20)
    assert len(text) > max(SHORT, STRETCH)
    assert composer._encoder.encode(text) == composer.tokens.encode_plain(text)
