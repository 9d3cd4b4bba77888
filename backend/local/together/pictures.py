"""Pictures as tokens: each content gets ids of its own, behind which its features stand.

Ids below the vocabulary are words; above it every tile of every content ever shown has a run of
ids that no other content has, for as long as keys and values computed from them are kept. So
whoever compares ids compares pictures too. Rows of features are bounded: a content's rows stay
while a request uses it, and then until others need the room. Knows contents by their keys.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable

import torch

MOST_TILES = 1 << 16  # numbered; then the numbering begins anew, which needs an idle moment


class PictureRows:
    """Features of at most `rows` tiles, found by virtual ids from `first` on."""

    def __init__(
        self, first: int, tokens: int, rows: int, like: torch.Tensor, most: int = MOST_TILES
    ) -> None:
        """`tokens` per tile; features are as wide, of the dtype and on the device as `like`."""
        self._first = first
        self._tokens = tokens
        self._most = most
        self._end = first + most * tokens
        self._bank = like.new_zeros((rows, tokens, like.shape[-1]))
        self._row_of_tile = torch.zeros(most, dtype=torch.int64, device=like.device)
        self.clear()

    def clear(self) -> None:
        """Forget all contents. Whatever was computed from their ids must be forgotten too."""
        self._numbers: dict[bytes, range] = {}
        self._rows: OrderedDict[bytes, list[int]] = OrderedDict()
        self._pins: Counter[bytes] = Counter()
        self._free = list(range(len(self._bank)))
        self._numbered = 0

    def can_number(self, contents: Iterable[tuple[bytes, int]]) -> bool:
        """Whether the new ones among contents, each so many tiles, can still be given ids."""
        new = {key: tiles for key, tiles in contents if key not in self._numbers}
        return self._numbered + sum(new.values()) <= self._most

    def ids_of(self, key: bytes, tiles: int) -> range:
        """The ids of a content's tokens: the same ones each time, and nobody else's."""
        numbers = self._numbers.get(key)
        if numbers is None:
            numbers = range(self._numbered, self._numbered + tiles)
            self._numbers[key] = numbers
            self._numbered += tiles
        begin = self._first + numbers.start * self._tokens
        return range(begin, begin + len(numbers) * self._tokens)

    def known_ids_of(self, key: bytes, tiles: int) -> range:
        """The same for who only looks: of a content that was never shown, ids behind all others."""
        if key in self._numbers:
            return self.ids_of(key, tiles)
        return range(self._end, self._end + tiles * self._tokens)

    def has(self, key: bytes) -> bool:
        """Whether the features of a content are there."""
        return key in self._rows

    def put(self, key: bytes, features: torch.Tensor) -> None:
        """Take the features [tiles, tokens, width] of a content whose ids were asked for."""
        self._make_room(len(features))
        left = len(self._free) - len(features)
        rows = self._free[left:]
        where = torch.tensor(rows, device=self._bank.device)
        self._bank.index_copy_(0, where, features.to(self._bank))
        numbers = self._numbers[key]
        self._row_of_tile[numbers.start : numbers.stop] = where
        # Last, so that no content has rows that nothing was copied into.
        self._rows[key] = rows
        del self._free[left:]

    def pin(self, keys: Iterable[bytes]) -> None:
        """Keep these contents until they are unpinned as often."""
        for key in keys:
            self._pins[key] += 1
            if key in self._rows:
                self._rows.move_to_end(key)

    def unpin(self, keys: Iterable[bytes]) -> None:
        """Undo `pin`."""
        for key in keys:
            self._pins[key] -= 1

    def look_up(self, ids: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Embeddings of ids [n]: `words` [n, width] for words, features for virtual ids."""
        number = ids.to(torch.int64) - self._first
        seen = number >= 0
        number = number.clamp_(min=0)
        rows = self._row_of_tile[number // self._tokens]
        return torch.where(seen[:, None], self._bank[rows, number % self._tokens], words)

    def _make_room(self, tiles: int) -> None:
        for key in [key for key in self._rows if self._pins[key] <= 0]:
            if len(self._free) >= tiles:
                return
            self._free += self._rows.pop(key)
        if len(self._free) < tiles:
            raise AssertionError("more tiles are in use than there are rows")
