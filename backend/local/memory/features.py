"""Features: what the vision tower saw of each content, kept while there is room.

Shared by all conversations, so that a picture is encoded once, whoever shows it and however
often. Encodes only what is missing, a bounded batch of tiles at a time. It knows contents by
their keys and no files; used by the model's thread alone.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from backend.local.preparation import Cut
from backend.planner.costs import TILES_PER_BATCH

TILES_AT_ONCE = TILES_PER_BATCH  # bounds the memory of the vision tower, as the plan counts on

Encode = Callable[[NDArray[np.uint8]], torch.Tensor]  # [n, height, width, 3] → [n, tokens, width]


class _Seen:
    """Features of one content, filled batch by batch: so many of its tiles are `done`."""

    def __init__(self, tiles: int) -> None:
        self._tiles = tiles
        self.done = 0
        self.features = torch.empty(0)  # [tiles, tokens per tile, width] once a batch is there

    @property
    def left(self) -> int:
        """Tiles that are still to be encoded."""
        return self._tiles - self.done

    def add(self, batch: torch.Tensor) -> None:
        """Take the features of the next tiles."""
        if not self.done:
            self.features = batch.new_empty((self._tiles, *batch.shape[1:]))
        self.features[self.done : self.done + len(batch)] = batch
        self.done += len(batch)


class Features:
    """At most `capacity` bytes of features; the least recently used contents leave first."""

    def __init__(self, encode: Encode, capacity: int, at_once: int = TILES_AT_ONCE) -> None:
        self._encode = encode
        self._capacity = capacity
        self._at_once = at_once
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes that the kept features take."""
        return sum(seen.features.nbytes for seen in self._seen.values())

    def of(self, cuts: Sequence[Cut], between: Callable[[], None] = lambda: None) -> torch.Tensor:
        """Features of all tiles of at least one cut, in order: [tiles, tokens per tile, width].

        Encodes what is missing, and calls `between` after each batch. What ends it in between
        costs no batch that was done before.
        """
        seen = self._look_up(cuts)
        for _ in self._fill(cuts, seen, self._at_once):
            between()
        return torch.cat([one.features for one in seen])

    def ahead(self, cuts: Sequence[Cut], at_once: int) -> Iterator[None]:
        """Encode what is missing of these cuts, so many tiles with each step of the iterator."""
        yield from self._fill(cuts, self._look_up(cuts), at_once)

    def clear(self) -> None:
        """Forget everything."""
        self._seen.clear()

    def _look_up(self, cuts: Sequence[Cut]) -> list[_Seen]:
        """What is kept of these contents; new and empty for one never seen."""
        for cut in cuts:
            self._seen.setdefault(cut.key, _Seen(len(cut.tiles)))
            self._seen.move_to_end(cut.key)
        return [self._seen[cut.key] for cut in cuts]

    def _fill(self, cuts: Sequence[Cut], seen: Sequence[_Seen], at_once: int) -> Iterator[None]:
        """Encode batch by batch. A batch may hold tiles of several contents."""
        unlike = {cut.key: (cut.tiles, one) for cut, one in zip(cuts, seen, strict=True)}
        while batch := next_batch((one for _, one in unlike.values()), at_once):
            tiles = [
                tiles[one.done : one.done + batch[one]]
                for tiles, one in unlike.values()
                if one in batch
            ]
            # A copy even of one: tiles are kept read-only, and torch warns of such arrays.
            encoded = self._encode(np.concatenate(tiles))
            for one, count in batch.items():
                one.add(encoded[:count])
                encoded = encoded[count:]
            self._make_room()
            yield

    def _make_room(self) -> None:
        """Let the oldest go; whoever is being served holds on to what it needs by itself."""
        taken = self.nbytes
        while taken > self._capacity:
            _, oldest = self._seen.popitem(last=False)
            taken -= oldest.features.nbytes


def next_batch(seen: Iterable[_Seen], room: int) -> dict[_Seen, int]:
    """The contents whose next tiles go in together, in order, and how many of each."""
    batch = {}
    for one in seen:
        if room and one.left:
            batch[one] = min(one.left, room)
            room -= batch[one]
    return batch
