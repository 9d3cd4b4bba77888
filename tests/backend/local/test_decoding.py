"""Decoding token by token gives what decoding everything at once gives, and gives it at once."""

import random
from pathlib import Path

import pytest

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.checkpoint.tokenizer import read_tokens, spell_bytes
from backend.checkpoint.tokens import Tokens
from backend.local.decoding import MARKS, ByteTable, TextDecoder
from tests.backend.local.golden import FOLDER, NAMES

TEXTS = [
    "",
    "Hello, who are you?",
    "  two  spaces\tand\ttabs \r\n and\n\n\nlines   ",
    "你是书生·万象，英文名是InternVL。",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำเลยสักนิดเดียว",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇹🇭 👍🏽 e\u0301 \U0001f9ff",
    "aGVsbG8gd29ybGQ" * 40,
    "https://example.org/a/b?c=d&e=%F0%9F%98%80#f",
    "```python\nprint('x')\n```\n$\\frac{1}{2}$ | a | b |",
    "שלום עולם مرحبا بالعالم \u202eabc\u202c",
    "\x00\x01\x7f \u200b\ufeff\ufffd",
    "<|not_a_token|> <ref <box>> [[1, 2, 3, 4]]",
]


@pytest.fixture(params=[BUNDLED_FOLDER, *(FOLDER / name for name in NAMES)], ids=lambda f: f.name)
def tokens(request: pytest.FixtureRequest) -> Tokens:
    folder: Path = request.param
    return read_tokens(folder)


def decode(tokens: Tokens, ids: list[int]) -> list[str]:
    decoder = TextDecoder(ByteTable(tokens))
    return [*(decoder.feed(token) for token in ids), decoder.end()]


def whole(tokens: Tokens, ids: list[int]) -> str:
    """The library's own decoding, without the special tokens that are no marks of grounding."""
    added = tokens.tokenizer.get_added_tokens_decoder()
    signs = {n for n, token in added.items() if token.special and token.content not in MARKS}
    kept = [token for token in ids if token not in signs]
    return str(tokens.tokenizer.decode(kept, skip_special_tokens=False))


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text(tokens: Tokens, text: str) -> None:
    ids = tokens.encode_plain(text)
    assert "".join(decode(tokens, ids)) == whole(tokens, ids)


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_as_soon_as_its_last_character_is_complete(tokens: Tokens, text: str) -> None:
    ids = tokens.encode_plain(text.replace("\ufffd", ""))
    so_far = ""
    for number, piece in enumerate(decode(tokens, ids)[:-1], 1):
        so_far += piece
        assert so_far == whole(tokens, ids[:number]).rstrip("\ufffd")


def test_random_ids_decode_as_at_once(tokens: Tokens) -> None:
    """Most of these are no valid UTF-8: U+FFFD must come in the same places."""
    chance = random.Random(3)
    size = tokens.tokenizer.get_vocab_size()
    for length in [*range(1, 40), 400, 4096]:
        ids = [chance.randrange(size) for _ in range(length)]
        assert "".join(decode(tokens, ids)) == whole(tokens, ids)


def test_single_bytes_in_any_order_decode_as_at_once(tokens: Tokens) -> None:
    found = (tokens.tokenizer.token_to_id(character) for character in spell_bytes())
    singles = [token for token in found if token is not None]
    assert len(singles) > 200
    chance = random.Random(4)
    for _ in range(300):
        ids = [chance.choice(singles) for _ in range(chance.randrange(1, 30))]
        assert "".join(decode(tokens, ids)) == whole(tokens, ids)


def test_an_unfinished_character_is_not_lost_at_the_end(tokens: Tokens) -> None:
    cut = next(t for c, b in spell_bytes().items() if b == 0xE4 and (t := id_of(tokens, c)))
    assert decode(tokens, [cut]) == ["", "\ufffd"]


def id_of(tokens: Tokens, character: str) -> int | None:
    return tokens.tokenizer.token_to_id(character)


def test_marks_of_grounding_stay_and_other_special_tokens_go(tokens: Tokens) -> None:
    written = ["<ref>", "</ref>", "<box>", "</box>"]
    ids = [tokens.special(mark) for mark in written]
    signs = ["<|im_start|>", "<img>", "<IMG_CONTEXT>", "</img>", "<|endoftext|>"]
    mixed = [token for mark in ids for token in (mark, *map(tokens.special, signs))]
    assert "".join(decode(tokens, mixed)) == "".join(written)


def test_a_special_token_inside_a_character_does_not_break_it(tokens: Tokens) -> None:
    first, second, third = (id_of(tokens, spelling) for spelling in spell("中"))
    assert first is not None and second is not None and third is not None
    sign = tokens.special("<|endoftext|>")
    assert decode(tokens, [first, sign, second, third]) == ["", "", "", "中", ""]


def spell(text: str) -> list[str]:
    alphabet = {byte: character for character, byte in spell_bytes().items()}
    return [alphabet[byte] for byte in text.encode()]


def test_ids_beyond_the_vocabulary_add_nothing(tokens: Tokens) -> None:
    assert decode(tokens, [10**6]) == ["", ""]
