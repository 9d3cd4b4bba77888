"""Rows of ids: round trips, the vocabulary, what is learnt, and what separate questions see."""

import random
from collections.abc import Iterator

import pytest

from backend.conversation import Attachment, Conversation, Kind, Turn
from backend.prompt.template import Special, Text, Tiles, write_prompt
from training.lessons import SUBJECTS, teach
from training.sequences import Dialogue, encode_prompt, encode_row, pad_rows
from training.system_prompts import OFFICIAL, OTHERS
from training.tokenizer import SPECIAL, VOCABULARY, Codec, build_tokenizer
from training.trials import KINDS, make_trials
from training.wordings import load_wordings

FAMILIES = (*SUBJECTS, "text", "later")


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec()


def texts() -> Iterator[str]:
    yield OFFICIAL
    yield from OTHERS
    for kind in KINDS:
        for trial in make_trials(kind, "seeds", 4, seed=1):
            yield from (text for turn in trial.dialogue.turns for text in turn)


def test_text_comes_back_from_its_ids(codec: Codec) -> None:
    for text in [*texts(), "Ünïcödé 你好 🙂\n\ttabs  and   spaces "]:
        assert codec.decode(list(codec.encode(text))) == text


def test_every_answer_of_every_kind_fits_the_vocabulary(codec: Codec) -> None:
    assert codec.size == VOCABULARY
    assert all(token < VOCABULARY for text in texts() for token in codec.encode(text))


def test_a_person_cannot_type_a_special_token(codec: Codec) -> None:
    special = set(codec.special.values())
    for name in SPECIAL:
        assert not special & set(codec.encode_words(f"a {name} b"))
        assert codec.special[name] in codec.encode(name)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lesson_has_sixteen_tokens_for_each_tile_and_keeps_to_its_budget(
    codec: Codec, family: str
) -> None:
    rng = random.Random(2)
    budget = 352 if family == "film" else 208
    for _ in range(12):
        lesson = teach(rng, codec, family, budget)
        context = codec.special["<IMG_CONTEXT>"]
        assert lesson.row.ids.count(context) == 16 * len(lesson.tiles) == 16 * len(lesson.labels)
        assert any(lesson.row.learnt)
        assert len(lesson.row.ids) <= (budget if family != "later" else 2 * budget)


def test_only_answers_are_learnt(codec: Codec) -> None:
    row = encode_row(codec, Dialogue("", (("Hi", "Hello!"), ("Bye", "Goodbye.")), OFFICIAL))
    told = [token for token, learnt in zip(row.ids, row.learnt, strict=True) if learnt]
    assert codec.decode(told) == "Hello!<|im_end|>Goodbye.<|im_end|>"


def test_separate_questions_start_at_the_same_place_and_see_only_the_picture(codec: Codec) -> None:
    turns = (("What is this?", "I see a star."), ("Count the shapes.", "There is one shape."))
    row = encode_row(codec, Dialogue("<image:1>\n", turns, None, separate=True))
    starts = [row.positions[row.segments.index(segment)] for segment in (1, 2)]
    assert starts[0] == starts[1] == row.segments.count(0)


def test_padding_predicts_exactly_the_learnt_tokens(codec: Codec) -> None:
    rng = random.Random(3)
    rows = [teach(rng, codec, family, 208).row for family in ("scene", "text", "pair")]
    arrays = pad_rows(codec, rows)
    learnt = [
        token
        for row in rows
        for token, is_learnt in zip(row.ids, row.learnt, strict=True)
        if is_learnt
    ]
    assert arrays.targets.tolist() == learnt
    flat = arrays.ids.reshape(-1)
    assert flat[arrays.predicting + 1].tolist() == learnt


def test_the_trained_prompt_is_the_one_that_the_app_writes(codec: Codec) -> None:
    files = tuple(Attachment(path=name, kind=Kind.IMAGE, name=name) for name in ("a.png", "b.png"))
    conversation = Conversation().asked(Turn("Compare them.", files))
    ids: list[int] = []
    for piece in write_prompt(conversation, OFFICIAL, lambda _: (1,), lambda answer: answer.text):
        if isinstance(piece, Text):
            ids += codec.encode_words(piece.text)
        elif isinstance(piece, Special):
            ids.append(codec.special[piece.token])
        elif isinstance(piece, Tiles):
            ids += [codec.special["<IMG_CONTEXT>"]] * 16 * piece.count
    head = "Image-1: <image:1>\nImage-2: <image:1>\n"
    assert ids == encode_prompt(codec, Dialogue(head, (("Compare them.", ""),), OFFICIAL))


def test_a_tokenizer_can_be_built_anew() -> None:
    wordings = load_wordings("picture").values()
    lines = [line for pool in wordings for line in (*pool.trained, *pool.held)] * 20
    built = build_tokenizer(iter(lines), vocabulary=400)
    assert built.get_vocab_size() <= 400
    assert built.token_to_id("<box>") == built.get_vocab_size() - 2
    asked = "Where is the <ref>star</ref>?"
    assert built.decode(built.encode(asked).ids, skip_special_tokens=False) == asked
