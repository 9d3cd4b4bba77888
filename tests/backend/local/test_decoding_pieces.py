"""Answers in InternLM's tokens: token by token as at once, each character once it is complete."""

import pytest

from backend.checkpoint.tokens import Tokens
from backend.local.decoding import MARKS, ByteTable, TextDecoder
from tests.backend.checkpoint.recorded_pieces import Recorded
from tests.backend.local.test_decoding import TEXTS, decode


def test_pieces_join_to_what_upstream_decodes_at_once(recorded: Recorded, tokens: Tokens) -> None:
    marks = {tokens.special(mark) for mark in MARKS}
    compared = [case for case in recorded.answers if marks.isdisjoint(case["ids"])]
    assert len(compared) > 100
    for case in compared:
        assert "".join(decode(tokens, case["ids"])) == case["text"], case["ids"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_as_soon_as_its_last_character_is_complete(tokens: Tokens, text: str) -> None:
    ids = tokens.encode_plain(text.replace("\ufffd", ""))
    decoder, so_far = TextDecoder(ByteTable(tokens)), ""
    for number, token in enumerate(ids, 1):
        so_far += decoder.feed(token)
        assert so_far == tokens.decode(ids[:number]).rstrip("\ufffd")
    assert decoder.end() == ""


def test_only_the_first_space_is_taken_and_marks_of_grounding_stay(tokens: Tokens) -> None:
    ids = [*tokens.encode_plain("one"), tokens.special("<ref>"), *tokens.encode_plain(" two")]
    shown = "".join(decode(tokens, ids))
    assert shown.split() == ["one<ref>", "two"]
    assert shown.startswith("one")
    assert tokens.without_special(shown) == tokens.decode(ids)


def test_signs_add_nothing_and_do_not_break_a_character(tokens: Tokens) -> None:
    bytes_of_it = tokens.encode_plain("ไ")[-3:]
    first, second, third = bytes_of_it
    sign = tokens.special("<|im_end|>")
    assert decode(tokens, [first, sign, second, third]) == ["", "", "", "ไ", ""]
    assert decode(tokens, [first, second]) == ["", "", "\ufffd\ufffd"]
