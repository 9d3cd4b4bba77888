"""Rows of features behind virtual ids."""

import pytest
import torch

from backend.local.together.pictures import PictureRows

WORDS = torch.tensor([[0.5, 0.5], [0.25, 0.25], [0.125, 0.125]])
FIRST, TOKENS = 10, 3


def features(value: float, tiles: int) -> torch.Tensor:
    tokens = torch.arange(tiles * TOKENS, dtype=torch.float32)
    return (value + tokens).reshape(tiles, TOKENS, 1).repeat(1, 1, 2)


def rows(room: int = 4, most: int = 16) -> PictureRows:
    return PictureRows(FIRST, TOKENS, room, WORDS, most)


def show(bank: PictureRows, key: bytes, value: float, tiles: int) -> range:
    ids = bank.ids_of(key, tiles)
    bank.put(key, features(value, tiles))
    return ids


def test_words_stay_and_pictures_are_put_in_their_places() -> None:
    bank = rows()
    show(bank, b"a", 100, 1)
    ids = show(bank, b"b", 200, 2)
    found = bank.look_up(torch.tensor([1, ids[0], ids[5]], dtype=torch.int32), WORDS)
    assert found[:, 0].tolist() == [0.5, 200, 205]


def test_a_content_keeps_its_ids_and_shares_them_with_nobody() -> None:
    bank = rows()
    first = show(bank, b"a", 1, 2)
    assert bank.ids_of(b"a", 2) == first
    assert not set(first) & set(bank.ids_of(b"b", 2))
    assert first.start == FIRST and len(first) == 2 * TOKENS


def test_rows_go_to_others_but_ids_do_not() -> None:
    bank = rows(room=3)
    first = show(bank, b"a", 1, 2)
    show(bank, b"b", 50, 2)
    assert not bank.has(b"a") and bank.has(b"b")
    assert show(bank, b"a", 1, 2) == first
    assert bank.look_up(torch.tensor([first[4]]), WORDS[:1])[0, 0] == 5


def test_rows_in_use_stay() -> None:
    bank = rows(room=4)
    show(bank, b"a", 1, 2)
    bank.pin([b"a"])
    show(bank, b"b", 50, 2)
    show(bank, b"c", 70, 2)
    assert bank.has(b"a") and not bank.has(b"b")
    with pytest.raises(AssertionError, match="more tiles are in use"):
        show(bank, b"d", 90, 4)
    bank.unpin([b"a"])
    show(bank, b"d", 90, 4)
    assert not bank.has(b"a")


def test_the_one_used_longest_ago_leaves_first() -> None:
    bank = rows(room=4)
    show(bank, b"a", 1, 2)
    show(bank, b"b", 2, 2)
    bank.pin([b"a"])
    bank.unpin([b"a"])
    show(bank, b"c", 3, 2)
    assert bank.has(b"a") and not bank.has(b"b")


def test_numbers_run_out_and_begin_anew_when_all_is_forgotten() -> None:
    bank = rows(most=4)
    show(bank, b"a", 1, 3)
    assert bank.can_number([(b"a", 3)]) and bank.can_number([(b"b", 1)])
    assert not bank.can_number([(b"b", 2)])
    bank.clear()
    assert not bank.has(b"a") and bank.can_number([(b"b", 4)])


def test_a_content_whose_features_could_not_be_copied_has_no_rows() -> None:
    bank = rows()
    bank.ids_of(b"a", 3)
    with pytest.raises(RuntimeError):
        bank.put(b"a", features(1, 3)[..., :1])  # of another width
    assert not bank.has(b"a")
    show(bank, b"b", 1, 4)
    assert bank.has(b"b")
