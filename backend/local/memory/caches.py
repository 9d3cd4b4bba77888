"""Caches: keys and values of what the model read and wrote, kept for what will begin alike.

A question that goes on where a kept one ended takes its cache over; one that branches off (asked
again, edited) gets a copy that shares the storage, cropped to what both have. The least recently
used leave first: the device, for the host's memory if there is some for them, and then that too.
Used by the model's thread alone.
"""

from collections import OrderedDict
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from backend.local.memory.host import Host
from backend.local.memory.prefix import Reading

MOST = 512  # caches; each question is compared with all of them


@dataclass(eq=False, slots=True)
class _Kept:
    reading: Reading
    cache: DynamicCache
    nbytes: int
    away: bool = False  # in the host's memory


@dataclass(frozen=True, eq=False, slots=True)
class Start:
    """What a question begins with: a cache that holds its first `tokens` tokens."""

    cache: DynamicCache
    tokens: int
    away: bool = False  # in the host's memory: for `Caches.fetch`


class Caches:
    """Caches of at most `capacity` bytes together, and more of them in the memory of `host`."""

    def __init__(self, capacity: int, host: Host | None = None) -> None:
        self._capacity = capacity
        self._host = host or Host()
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._names = count()

    @property
    def nbytes(self) -> int:
        """Bytes of the device that kept caches take; what two of them share counts twice."""
        return sum(kept.nbytes for kept in self._kept.values() if not kept.away)

    @property
    def nbytes_away(self) -> int:
        """Bytes of the host's memory that they take."""
        return sum(kept.nbytes for kept in self._kept.values() if kept.away)

    def __len__(self) -> int:
        return len(self._kept)

    def kept_of(self, reading: Reading) -> int:
        """How many of its first tokens some cache holds, here or in the host's memory."""
        return max(self._lengths(reading).values(), default=0)

    def start(self, reading: Reading) -> Start | None:
        """The cache that shares most with `reading`, if any does.

        It is the caller's from now on: `fetch` it where there is room, and what goes on from it
        is given back by `keep`.
        """
        lengths = self._lengths(reading)
        # Of equals the latest, which will be asked about soonest.
        name = max(reversed(lengths), key=lengths.__getitem__, default=None)
        if name is None or not lengths[name]:
            return None
        tokens, kept = lengths[name], self._kept[name]
        if tokens == len(kept.reading):
            del self._kept[name]
            return Start(kept.cache, tokens, kept.away)
        self._kept.move_to_end(name)
        return Start(branch(kept.cache, tokens), tokens, kept.away)

    def fetch(self, start: Start) -> Start:
        """The same on the device, where the model can go on from it."""
        if not start.away:
            return start
        return Start(self._host.give_back(start.cache), start.tokens)

    def keep(self, reading: Reading, cache: DynamicCache) -> None:
        """Keep what `cache` holds of `reading`, however the work on it ended."""
        length = min(even(cache), len(reading)) if croppable(cache) else 0
        if not length:
            return
        crop(cache, length)
        reading = reading.cut_to(length)
        for name, kept in list(self._kept.items()):
            shared = reading.shared_with(kept.reading)
            if shared == length:
                self._kept.move_to_end(name)
                return
            if shared == len(kept.reading):
                del self._kept[name]
        self._kept[next(self._names)] = _Kept(reading, cache, nbytes_of(cache))
        while self.nbytes > self._capacity:
            self.free_oldest()
        while len(self) > MOST:
            self._kept.popitem(last=False)

    def free_oldest(self) -> bool:
        """Free the device of the least recently used cache there; false if there is none."""
        name = next((name for name, kept in self._kept.items() if not kept.away), None)
        if name is None:
            return False
        kept = self._kept[name]
        if kept.nbytes <= self._host.capacity:
            cache = self._host.take(kept.cache)
            self._kept[name] = _Kept(kept.reading, cache, nbytes_of(cache), away=True)
            self._keep_to_the_hosts_capacity()
        else:
            del self._kept[name]
        return True

    def _lengths(self, reading: Reading) -> dict[int, int]:
        """What each cache has of a reading, in tokens."""
        return {name: reading.reusable_from(one.reading) for name, one in self._kept.items()}

    def _keep_to_the_hosts_capacity(self) -> None:
        while self.nbytes_away > self._host.capacity:
            del self._kept[next(name for name, kept in self._kept.items() if kept.away)]

    def clear(self) -> None:
        """Free them all."""
        self._kept.clear()


def croppable(cache: DynamicCache) -> bool:
    """Whether every layer keeps every token; one with a sliding window cannot go back."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def even(cache: DynamicCache) -> int:
    """Tokens that all layers hold: an answer that is ended within a step leaves some longer."""
    return min((_length(tensor) for tensor in _tensors(cache)), default=0)


def crop(cache: DynamicCache, length: int) -> None:
    """Let every layer hold the first `length` tokens, and no memory for more."""
    for layer in _layers(cache):
        if _length(layer.keys) > length:
            layer.keys = layer.keys[..., :length, :].clone()
        if _length(layer.values) > length:
            layer.values = layer.values[..., :length, :].clone()


def branch(cache: DynamicCache, length: int) -> DynamicCache:
    """A cache of the first `length` tokens that shares its storage; appending to it copies."""
    twin = copy(cache)
    twin.layers = [copy(layer) for layer in cache.layers]
    twin.crop(length - cache.get_seq_length())  # transformers 5 wants the number to remove, negated
    return twin


def nbytes_of(cache: DynamicCache) -> int:
    """Bytes of keys and values."""
    return sum(tensor.untyped_storage().nbytes() for tensor in _tensors(cache))


def _layers(cache: DynamicCache) -> list[Any]:
    """Layers of keys and values; typed loosely, since transformers knows layers without them."""
    return cache.layers


def _tensors(cache: DynamicCache) -> Iterator[torch.Tensor]:
    """Keys and values of all layers; of one that was never reached, nothing of no length."""
    for layer in _layers(cache):
        yield from (layer.keys, layer.values) if layer.is_initialized else (torch.empty(0),)


def _length(tensor: torch.Tensor) -> int:
    """Tokens of keys or values [1, heads, tokens, width]; layers begin with an empty vector."""
    return tensor.shape[-2] if tensor.dim() == 4 else 0
