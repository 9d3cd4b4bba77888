"""How far two texts that a model reads agree: by token ids and by what their pictures show.

All pictures share one token id, so that ids alone would take any picture for any other. Pure:
knows neither torch nor files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Tile = tuple[bytes, int]  # the key of a content and the number of the tile in it


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """Tokens as a model reads them; the ids that are `place` stand for tiles, in order."""

    ids: NDArray[np.int64]  # [tokens]
    tiles: tuple[Tile, ...]
    place: int  # the id of a context token
    tokens_per_tile: int

    def __len__(self) -> int:
        return len(self.ids)

    def followed_by(self, ids: Sequence[int]) -> "Reading":
        """With an answer after it."""
        return replace(self, ids=np.concatenate([self.ids, np.array(ids, np.int64)]))

    def cut_to(self, length: int) -> "Reading":
        """Its first tokens; they may end within a picture."""
        return replace(self, ids=self.ids[:length])

    def tiles_before(self, length: int) -> int:
        """How many tiles the first tokens show whole."""
        return int(np.count_nonzero(self.ids[:length] == self.place)) // self.tokens_per_tile

    def shared_with(self, other: "Reading") -> int:
        """How many tokens at the beginning are the same, what they show included."""
        length = min(len(self), len(other))
        same = _first(self.ids[:length] != other.ids[:length], length)
        shown = list(zip(self.tiles, other.tiles, strict=False))
        unlike = next((at for at, (one, two) in enumerate(shown) if one != two), len(shown))
        places = np.flatnonzero(self.ids[:same] == self.place)
        beyond = places[unlike * self.tokens_per_tile :]
        return int(beyond[0]) if len(beyond) else same

    def reusable_from(self, kept: "Reading") -> int:
        """How many tokens need not be read again, once `kept` was read.

        At least one is left, since the model must read something to go on from; and a picture is
        seen whole or not at all, since its features go in together.
        """
        length = min(self.shared_with(kept), len(self) - 1)
        if self.ids[length] != self.place:
            return length
        apart = np.flatnonzero(self.ids[:length] != self.place)
        return int(apart[-1]) + 1 if len(apart) else 0


def _first(where: NDArray[np.bool_], otherwise: int) -> int:
    """The first true place."""
    return int(where.argmax()) if where.any() else otherwise
