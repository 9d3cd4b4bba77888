"""Composing: the card's prompts to the letter and to the id, whatever anybody types."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.checkpoint.facts import read_facts
from backend.checkpoint.tokenizer import ByteLevel, read_added_tokens, read_tokens
from backend.conversation import Answer, Attachment, Conversation, Turn
from backend.errors import BadCheckpoint, BadQuestion
from backend.prompt.compose import Composer, Prompt
from tests.backend.checkpoint.folders import (
    FOLDERS,
    GOLDEN,
    ORIGINAL,
    change_json,
    copy_small_files,
    with_odd_tokens,
    with_word_of_newlines,
)
from tests.backend.prompt.pictures import FakeMedia, composer_of, image, video

CASES = json.loads((GOLDEN / "prompts.json").read_text("utf-8"))


@cache
def upstream(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def ids_by_upstream(folder: Path, text: str) -> tuple[int, ...]:
    """The whole string through upstream's tokenizer, as `model.chat` does it."""
    text = re.sub(r"\{(\d+)\}", lambda run: "<IMG_CONTEXT>" * int(run[1]), text)
    return tuple(upstream(folder)(text)["input_ids"])


def conversation_of(case: dict[str, Any]) -> Conversation:
    """A golden case as a person would have made it: files beside questions."""
    conversation = Conversation(system=case["system"])
    for question, answer in case["turns"]:
        *_, words = question.split("<image>\n")
        files = files_of(case) if words != question else ()
        turn = Turn(words, files, "combined" in case["kind"], answer and Answer(answer))
        conversation = conversation.asked(turn)
    return conversation


def files_of(case: dict[str, Any]) -> tuple[Attachment, ...]:
    tiles = [13, 7] if "combined" in case["kind"] else case["tiles_per_image"]
    if "video" in case["kind"]:
        return (video(len(tiles)),)
    return tuple(image(count - 1) for count in tiles)  # the thumbnail comes on top


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["kind"])
def test_a_golden_prompt_is_written_to_the_letter(case: dict[str, Any]):
    prompt = composer_of().compose(conversation_of(case))
    assert prompt.text == case["prompt"]
    assert prompt.ids == ids_by_upstream(ORIGINAL, case["prompt"])
    assert prompt.visual_tokens == 256 * sum(case["tiles_per_image"])


def test_the_official_system_prompt_is_the_default():
    assert (
        composer_of().compose(Conversation((Turn(CASES[0]["turns"][0][0]),))).text
        == (CASES[0]["prompt"])
    )


KINDS = {
    "text": (Turn("Hello"),),
    "two turns": (Turn("Hello", answer=Answer("Hi. ")), Turn("  Why?\n")),
    "one image": (Turn("What?", (image(6),)),),
    "later image": (Turn("What?", (image(6),), answer=Answer("A cat")), Turn("Now?", (image(1),))),
    "two images": (Turn("Compare", (image(6), image(2))),),
    "combined": (Turn("Compare", (image(6), image(2)), combined=True),),
    "video": (Turn("What happens?", (video(4),), answer=Answer("Much.")), Turn("More")),
    "mixed": (Turn("Both?", (image(3), video(3), image(2))),),
    "two videos": (Turn("Both?", (video(3), video(2))),),
    "files alone": (Turn("", (image(1),)),),
    "scripts": (Turn("你好 👍🏽 e\u0301\r\n\t", (image(1),)),),
}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_what_upstream_reads_in_the_whole_string(folder: Path, kind: str):
    prompt = composer_of(folder).compose(Conversation(KINDS[kind]))
    assert prompt.ids == ids_by_upstream(folder, prompt.text)


def test_a_word_may_reach_from_the_template_into_a_question(tmp_path: Path):
    folder = with_word_of_newlines(tmp_path / "copy")
    composer = composer_of(folder)
    both = composer.tokens.encode_plain("\n\n")
    assert len(both) == 1
    for turn in (Turn("\nQ"), Turn("\nQ", (image(1),))):
        prompt = composer.compose(Conversation((turn,)))
        assert prompt.ids.count(both[0]) == 1
        assert prompt.ids == ids_by_upstream(folder, prompt.text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_budget_counts_what_the_prompt_holds(kind: str):
    composer = composer_of()
    conversation = Conversation(KINDS[kind])
    prompt = composer.compose(conversation)
    assert composer.measure(conversation) == prompt.budget
    assert prompt.budget.total == len(prompt.ids)
    assert prompt.budget.visual == prompt.ids.count(composer.tokens.special("<IMG_CONTEXT>"))
    assert prompt.budget.visual == 256 * prompt.budget.tiles
    assert prompt.budget.limit == 32_768


def test_the_budget_counts_pictures_and_tiles():
    turn = Turn("Q", (image(12), image(1), video(20)))
    budget = composer_of().measure(Conversation((turn,)))
    assert (budget.images, budget.videos, budget.tiles) == (2, 1, 13 + 1 + 8)


def test_a_question_is_measured_while_it_is_written():
    composer = composer_of()
    assert composer.measure(Conversation()).text > 0
    assert composer.measure(Conversation((Turn(""),))).visual == 0


def test_attachments_come_in_the_order_of_their_pixels():
    files = (video(1), image(2, "a"), video(2), image(3, "b"))
    conversation = Conversation(
        (Turn("Q", files, combined=True, answer=Answer("A")), Turn("R", (image(1, "c"),)))
    )
    names = [file.name for file in composer_of().compose(conversation).attachments]
    assert names == ["a.mp4", "a", "b", "a.mp4", "c"]


def test_every_file_is_looked_at_once_and_may_be_interrupted():
    media = FakeMedia()
    composer = composer_of(media=media)
    conversation = Conversation((Turn("Q", (image(1), image(1), video(2))),))
    composer.compose(conversation)
    assert media.looked == [image(1), video(2)]
    with pytest.raises(InterruptedError):
        composer.compose(conversation, stopped=lambda: True)
    with pytest.raises(InterruptedError):
        composer.measure(conversation, stopped=lambda: True)


@pytest.mark.parametrize(
    "conversation",
    [
        Conversation(),
        Conversation((Turn(""),)),
        Conversation((Turn(" \n\t\u3000"),)),
        Conversation((Turn("Q", answer=Answer("A")),)),
    ],
    ids=["nothing", "empty", "spaces", "answered"],
)
def test_nothing_to_answer_is_a_bad_question(conversation: Conversation):
    with pytest.raises(BadQuestion):
        composer_of().compose(conversation)


# What was answered before


def test_history_is_read_as_the_card_reads_it():
    composer = composer_of()
    ids = upstream(ORIGINAL)(" <ref>A cat</ref><|endoftext|> sat\xff.<|im_start|>")["input_ids"]
    broken = [*ids, composer.tokens.encode_plain("猫")[0]]  # the first byte of three
    official = upstream(ORIGINAL).decode(broken, skip_special_tokens=True).strip()
    assert official.endswith("\ufffd")
    shown = " <ref>A cat</ref> sat\xff.\ufffd"  # as the engine writes it
    answer = Answer(shown, tuple(broken))
    prompt = composer.compose(Conversation((Turn("Q", answer=answer), Turn("R"))))
    assert f"assistant\n{official}<|im_end|>" in prompt.text
    assert prompt.ids == ids_by_upstream(ORIGINAL, prompt.text)


def test_history_without_ids_loses_its_special_tokens():
    answer = Answer(" See <ref>cat</ref><box>[[1, 2, 3, 4]]</box>\n")
    prompt = composer_of().compose(Conversation((Turn("Q", answer=answer), Turn("R"))))
    assert "assistant\nSee cat[[1, 2, 3, 4]]<|im_end|>" in prompt.text


# What people type


@pytest.fixture(params=[*FOLDERS, "odd"], ids=lambda folder: Path(folder).name)
def composer(request: pytest.FixtureRequest, tmp_path: Path) -> Composer:
    if request.param == "odd":
        return composer_of(with_odd_tokens(tmp_path / "odd"))
    return composer_of(request.param)


def signs_of(composer: Composer, prompt: Prompt) -> list[int]:
    """The added tokens among the ids, which only the template may put there."""
    added = set(composer.tokens.added.values())
    return [number for number in prompt.ids if number in added]


def typed(words: str, system: str = "", answer: str = "A", name: str = "a.png") -> Conversation:
    first = Turn(words, (image(2, name),), answer=Answer(answer))
    return Conversation((first, Turn(words + "?")), system)


def test_added_tokens_that_people_type_stay_words(composer: Composer):
    harmless = signs_of(composer, composer.compose(typed("x")))
    for token in composer.tokens.added:
        half = len(token) // 2
        for words in (token, f"a {token}", f"{token} a", token[:half] + token + token[half:]):
            conversation = typed(words, words, f"<{words}>", f"{words}.png")
            prompt = composer.compose(conversation)
            assert signs_of(composer, prompt) == harmless, words
            assert max(prompt.ids) < composer.facts.embedding_rows
            assert f"user\n<img>{{{3 * composer.facts.tokens_per_tile}}}</img>\n{words}" in (
                prompt.text
            )


def test_ids_that_spell_a_token_stay_words(composer: Composer):
    """A model may write `<|im_start|>` letter by letter: its history says so in letters."""
    harmless = signs_of(composer, composer.compose(typed("x")))
    ids = tuple(composer.tokens.encode_plain("<|im_start|>user"))
    first = Turn("x", (image(2),), answer=Answer("<|im_start|>user", ids))
    prompt = composer.compose(Conversation((first, Turn("x?"))))
    assert signs_of(composer, prompt) == harmless
    assert "assistant\n<|im_start|>user<|im_end|>" in prompt.text


def test_ids_of_another_tokenizer_are_not_believed(composer: Composer):
    """After the model was changed, an earlier answer goes by its text."""
    text = "A red circle, 圆 🙂."
    for other in FOLDERS:
        ids = tuple(read_tokens(other).encode_plain(text))
        for told in (ids, (*ids, 10**6), ids[:-2], ()):
            asked = Turn("Where?", answer=Answer(text, told))
            prompt = composer.compose(Conversation((asked, Turn("And now?"))))
            assert f"assistant\n{text}<|im_end|>" in prompt.text


def test_the_cards_own_placeholder_is_a_word_too(composer: Composer):
    words = "<image>\nImage-1: <image>\nFrame1: <image> {256}"
    prompt = composer.compose(Conversation((Turn(words),)))
    assert prompt.visual_tokens == 0
    assert words in prompt.text


PARTS = st.one_of(
    st.text(st.characters(codec=None), max_size=8),  # lone surrogates and NUL among them
    st.sampled_from(["<", ">", "|", "im_end", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"]),
    st.sampled_from(["<|im_start|>", "<video>", "<tool_call>", "<image>", "<box>", "\n", "\0"]),
)
WORDS = st.lists(PARTS, max_size=6).map("".join)


@cache
def odd_composer(folder: str) -> Composer:
    return composer_of(Path(folder))


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(with_odd_tokens(tmp_path_factory.mktemp("odd") / "odd"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(words=WORDS, system=WORDS, answer=WORDS, name=WORDS)
def test_no_words_whatever_become_signs(
    odd_folder: str, words: str, system: str, answer: str, name: str
):
    composer = odd_composer(odd_folder)
    harmless = signs_of(composer, composer.compose(typed("x")))
    prompt = composer.compose(typed(words, system, answer, name))
    assert signs_of(composer, prompt) == harmless
    assert max(prompt.ids) < composer.facts.embedding_rows
    prompt.text.encode("utf-8")


def test_half_a_surrogate_pair_is_replaced_and_nul_is_kept():
    prompt = composer_of().compose(Conversation((Turn("a\ud800b\0c"),)))
    assert "user\na\ufffdb\0c<|im_end|>" in prompt.text


def test_a_long_text_is_composed():
    words = "word " * 40_000 + " " * 10_000 + "e" + "\u0301" * 10_000
    assert len(composer_of().compose(Conversation((Turn(words),))).ids) > 32_768


# What would make the model fail


def test_ids_beyond_the_embedding_are_refused(tmp_path: Path):
    folder = copy_small_files(ORIGINAL, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    change_json(folder / "config.json", llm_config=config["llm_config"] | {"vocab_size": 503})
    composer_of(folder).compose(Conversation((Turn("Q"),)))
    with pytest.raises(BadCheckpoint, match="id 505, but the model knows 503"):
        composer_of(folder).compose(Conversation((Turn("Q", (image(1),)),)))
    change_json(folder / "config.json", llm_config=config["llm_config"] | {"vocab_size": 505})
    with pytest.raises(BadCheckpoint, match="id 505, but the model knows 505"):
        composer_of(folder).compose(Conversation((Turn("Q", (image(1),)),)))


def test_places_that_no_picture_made_are_refused():
    leaking = read_tokens(ORIGINAL).tokenizer  # this one knows added tokens in text
    tokens = ByteLevel(leaking, leaking, read_added_tokens(ORIGINAL))
    composer = Composer(read_facts(ORIGINAL), tokens, cast(Any, FakeMedia()))
    with pytest.raises(BadCheckpoint, match="257 places for 256 visual tokens"):
        composer.compose(Conversation((Turn("<IMG_CONTEXT>", (image(1),)),)))


def test_a_tokenizer_without_pictures_places_is_refused(tmp_path: Path):
    folder = copy_small_files(ORIGINAL, tmp_path / "copy")
    for name in ("added_tokens.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(path.read_text("utf-8").replace("<IMG_CONTEXT>", "<OTHER>"))
    with pytest.raises(BadCheckpoint, match="has no <IMG_CONTEXT>"):
        composer_of(folder)
