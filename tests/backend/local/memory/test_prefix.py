"""How far two readings agree: in ids, in what is shown, and without cutting a picture in two."""

import random

import numpy as np
import pytest

from backend.local.memory.prefix import Reading, Tile

PLACE = 9
EACH = 2  # tokens of a tile
CAT, CAT_2, DOG = (b"cat", 0), (b"cat", 1), (b"dog", 0)


def read(*ids: int, tiles: tuple[Tile, ...] = ()) -> Reading:
    return Reading(np.array(ids, np.int64), tiles, PLACE, EACH)


def test_words_agree_as_far_as_their_ids_do() -> None:
    assert read(1, 2, 3, 4).shared_with(read(1, 2, 5, 4)) == 2
    assert read(1, 2, 3, 4).shared_with(read(1, 2)) == 2
    assert read(1).shared_with(read(2)) == 0


def test_pictures_agree_in_content_and_not_in_ids_alone() -> None:
    """The same id stands for every picture."""
    one = read(1, 9, 9, 2, 9, 9, 3, tiles=(CAT, DOG))
    assert one.shared_with(read(1, 9, 9, 2, 9, 9, 3, tiles=(CAT, DOG))) == 7
    assert one.shared_with(read(1, 9, 9, 2, 9, 9, 3, tiles=(CAT, CAT))) == 4
    assert one.shared_with(read(1, 9, 9, 2, 9, 9, 3, tiles=(DOG, DOG))) == 1
    assert one.shared_with(read(1, 9, 9, 9, 9, 3, tiles=(CAT, CAT_2))) == 3


def test_one_token_at_least_is_left_to_read() -> None:
    assert read(1, 2, 3).reusable_from(read(1, 2, 3)) == 2
    assert read(1, 2, 3).reusable_from(read(1, 2, 3, 4)) == 2
    assert read(1, 2, 3).reusable_from(read(1, 2)) == 2
    assert read(1).reusable_from(read(1, 2)) == 0


def test_a_picture_is_reused_whole_or_not_at_all() -> None:
    both = read(1, 9, 9, 9, 9, 3, tiles=(CAT, CAT_2))
    assert both.reusable_from(read(1, 9, 9, 9, 9, 4, tiles=(CAT, CAT_2))) == 5
    assert both.reusable_from(read(1, 9, 9, 9, 9, 3, tiles=(CAT, DOG))) == 1
    assert both.reusable_from(both.cut_to(4)) == 1
    assert both.reusable_from(both.cut_to(5)) == 5
    assert both.cut_to(5).reusable_from(both) == 1  # its last token must be read again
    assert read(9, 9, tiles=(CAT,)).reusable_from(read(9, 9, tiles=(CAT,))) == 0


def test_tiles_are_counted_whole() -> None:
    both = read(1, 9, 9, 2, 9, 9, 3, tiles=(CAT, DOG))
    assert [both.tiles_before(length) for length in range(8)] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert both.cut_to(5).tiles_before(5) == 1


def test_an_answer_is_read_on_from() -> None:
    longer = read(1, 9, 9, tiles=(CAT,)).followed_by([4, 5])
    assert longer.ids.tolist() == [1, 9, 9, 4, 5] and longer.tiles == (CAT,)


def brute(one: Reading, two: Reading) -> int:
    """Token by token, each with what it shows."""

    def shown(reading: Reading) -> list[object]:
        tokens: list[object] = []
        for token in reading.ids.tolist():
            seen = sum(isinstance(known, tuple) for known in tokens)
            tokens.append((reading.tiles[seen // EACH], seen % EACH) if token == PLACE else token)
        return tokens

    pairs = list(zip(shown(one), shown(two), strict=False))
    return next((at for at, (a, b) in enumerate(pairs) if a != b), len(pairs))


@pytest.mark.parametrize("seed", range(20))
def test_it_is_as_far_as_looking_token_by_token_goes(seed: int) -> None:
    chance = random.Random(seed)

    def draw() -> Reading:
        ids: list[int] = []
        tiles: list[Tile] = []
        for _ in range(chance.randint(1, 6)):
            ids += chance.choices([1, 2], k=chance.randint(0, 2))
            for _ in range(chance.randint(0, 2)):
                ids += [PLACE] * EACH
                tiles.append(chance.choice([CAT, CAT_2, DOG]))
        return read(*ids, 3, tiles=tuple(tiles))

    for _ in range(50):
        one = draw()
        two = chance.choice([draw(), one.followed_by([1]), one.cut_to(chance.randint(1, len(one)))])
        expected = brute(one, two)
        assert one.shared_with(two) == expected == two.shared_with(one)
        kept = one.reusable_from(two)
        assert kept <= min(expected, len(one) - 1)
        assert one.ids[kept] != PLACE or kept == 0 or one.ids[kept - 1] != PLACE
