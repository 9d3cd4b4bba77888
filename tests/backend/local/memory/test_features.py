"""Features of each content are made once, in order, in bounded batches, within bounded memory."""

import itertools
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from backend.local.memory.features import Features
from backend.local.preparation import Cut

ROOMY = 1 << 20
TILE_BYTES = 2 * 3 * 4  # two tokens of three float32


class Tower:
    """Stands for the vision tower: the features of a tile are the number drawn on it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.fail_at: int | None = None

    def __call__(self, tiles: np.ndarray) -> torch.Tensor:
        if len(self.batches) == self.fail_at:
            self.fail_at = None
            raise RuntimeError("evil forward")
        self.batches.append(tiles[:, 0, 0, 0].tolist())
        return torch.tensor(tiles[:, 0, 0, 0]).float()[:, None, None].expand(-1, 2, 3)


def cut(*numbers: int) -> Cut:
    tiles = np.zeros((len(numbers), 2, 2, 3), np.uint8)
    tiles[:] = np.array(numbers, np.uint8)[:, None, None, None]
    return Cut(repr(numbers).encode(), tiles)


def numbers(features: torch.Tensor) -> list[int]:
    assert features.shape[1:] == (2, 3)
    return features[:, 0, 0].int().tolist()


def holds(features: Features, cut: Cut) -> bool:
    """Whether nothing of this cut would have to be encoded."""
    seen = features._seen.get(cut.key)
    return seen is not None and not seen.left


def store(tower: Tower, capacity: int = ROOMY, at_once: int = 4) -> Features:
    return Features(tower, capacity, at_once)


def test_a_content_is_encoded_once_whoever_shows_it() -> None:
    tower = Tower()
    features = store(tower)
    assert numbers(features.of([cut(1, 2)])) == [1, 2]
    assert numbers(features.of([cut(3), cut(1, 2), cut(3)])) == [3, 1, 2, 3]
    assert tower.batches == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("cuts", "batches"),
    [
        ([cut(1, 2, 3, 4, 5, 6, 7, 8, 9)], [[1, 2, 3, 4], [5, 6, 7, 8], [9]]),
        ([cut(1), cut(2, 3, 4, 5), cut(6)], [[1, 2, 3, 4], [5, 6]]),
        ([cut(n) for n in (1, 2, 3, 4, 5)], [[1, 2, 3, 4], [5]]),
        ([cut(1), cut(1), cut(1)], [[1]]),
    ],
)
def test_batches_are_full_but_never_larger(
    cuts: Sequence[Cut], batches: Sequence[Sequence[int]]
) -> None:
    tower = Tower()
    expected = list(itertools.chain.from_iterable(one.tiles[:, 0, 0, 0].tolist() for one in cuts))
    assert numbers(store(tower).of(cuts)) == expected
    assert tower.batches == batches


def test_what_was_encoded_before_an_error_is_not_lost() -> None:
    tower = Tower()
    features = store(tower)
    whole = cut(1, 2, 3, 4, 5, 6)
    tower.fail_at = 1
    with pytest.raises(RuntimeError, match="evil"):
        features.of([whole])
    assert not holds(features, whole)
    assert numbers(features.of([whole])) == [1, 2, 3, 4, 5, 6]
    assert tower.batches == [[1, 2, 3, 4], [5, 6]]


def test_ahead_of_a_question_one_batch_is_encoded_at_a_time() -> None:
    tower = Tower()
    features = store(tower)
    steps = features.ahead([cut(1, 2, 3), cut(4, 5)], 4)
    next(steps)
    assert tower.batches == [[1, 2, 3, 4]]
    assert holds(features, cut(1, 2, 3)) and not holds(features, cut(4, 5))
    assert len(list(steps)) == 1
    assert holds(features, cut(4, 5))
    assert not list(features.ahead([cut(1, 2, 3), cut(4, 5)], 4))


def test_the_least_recently_used_content_leaves_first() -> None:
    tower = Tower()
    features = store(tower, capacity=3 * TILE_BYTES)
    features.of([cut(1)])
    features.of([cut(2)])
    features.of([cut(3)])
    features.of([cut(1)])
    features.of([cut(4)])
    assert features.nbytes == 3 * TILE_BYTES
    assert [holds(features, cut(n)) for n in (1, 2, 3, 4)] == [True, False, True, True]


@pytest.mark.parametrize("capacity", [0, 2 * TILE_BYTES])
def test_a_question_larger_than_the_store_is_answered_all_the_same(capacity: int) -> None:
    tower = Tower()
    features = store(tower, capacity)
    for _ in range(2):
        assert numbers(features.of([cut(1), cut(2, 3), cut(4, 5, 6)])) == [1, 2, 3, 4, 5, 6]
        assert features.nbytes <= capacity
    assert len(list(features.ahead([cut(7, 8, 9, 10, 11)], 3))) == 2  # it ends, too


def test_pixels_are_not_kept_with_their_features() -> None:
    features = store(Tower())
    tiles = cut(1, 2)
    owner = tiles.tiles
    features.of([tiles])
    del tiles
    assert sys.getrefcount(owner) == 2


def test_nothing_is_held_after_it_is_cleared() -> None:
    features = store(Tower())
    features.of([cut(1)])
    features.clear()
    assert features.nbytes == 0 and not holds(features, cut(1))
