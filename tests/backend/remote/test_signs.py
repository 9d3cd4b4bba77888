"""Signs written out: broken in people's words, left out of answers, for each kind of tokenizer."""

from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.checkpoint.tokenizer import read_tokens
from backend.checkpoint.tokens import Tokens
from backend.remote.signs import BOXES, BREAK, Signs
from tests.backend.checkpoint.recorded_pieces import RECORDED, Recorded
from tests.backend.remote.conftest import Connect, Serve, ask, question
from tests.backend.remote.scripted_server import DONE, ROLE, Reply, models, refusal, word

CODE = "<p>was <s>12</s> now 9</p>"


@pytest.fixture
def folder(recorded: Recorded, tmp_path: Path) -> Path:
    return recorded.write_checkpoint(tmp_path / "checkpoint")


def test_every_sign_of_a_tokenizer_is_broken_but_those_of_boxes(tokens: Tokens) -> None:
    for one in (tokens, read_tokens(BUNDLED_FOLDER)):
        signs = Signs(one.added)
        for sign in one.added:
            told = signs.break_in(f"a{sign}b{sign}")
            if sign in BOXES:
                assert BREAK not in told
            else:
                assert sign not in told and told.count(BREAK) == 2
            assert told.replace(BREAK, "") == f"a{sign}b{sign}"


def test_what_is_a_sign_to_one_tokenizer_is_left_for_another(tokens: Tokens) -> None:
    assert Signs(read_tokens(BUNDLED_FOLDER).added).break_in(CODE) == CODE
    assert Signs().break_in(CODE) == CODE
    told = Signs(tokens.added).break_in(CODE)
    assert "<s>" not in told and "</s>" not in told and told.startswith("<p>")


def test_a_broken_sign_is_none_to_the_plain_library(folder: Path, tokens: Tokens) -> None:
    library: Any = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    signs = set(tokens.added.values())
    typed = (*tokens.added, "[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]")
    assert any(signs & set(library.encode(text)) for text in typed)
    for text in typed:
        assert not signs & set(library.encode(Signs(tokens.added).break_in(text))), text


def test_code_that_an_answer_spells_out_is_shown_and_signs_are_not(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    folder = RECORDED[0].write_checkpoint(tmp_path / "checkpoint")
    reply = Reply((ROLE, word(f"{CODE}<|im_"), word("end|>", "stop"), DONE))
    server = serve(models=refusal(200, models("vllm")), usual=reply)
    assert ask(connect(server.url, model=str(folder)), question(CODE)) == CODE
    body = server.asked[0].body
    assert body is not None
    asked = body["messages"][-1]["content"]
    assert "<s>" not in asked and asked.replace(BREAK, "") == CODE
