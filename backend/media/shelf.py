"""A shelf: values that are made once, by one thread, and kept while there is room.

Whoever asks for a value that another thread is making waits for it, so that no file is decoded
twice at once. The least recently used values leave first. Knows nothing of what it keeps.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from backend.media.stopping import POLL_S, Stopped, StopSign, never

Value = TypeVar("Value")


class Shelf(Generic[Value]):
    """Keeps values of at most `capacity` together, as `size` measures them. Thread-safe."""

    def __init__(self, capacity: int, size: Callable[[Value], int] = lambda value: 1) -> None:
        self._capacity = capacity
        self._size = size
        self._room = capacity
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._making: dict[Hashable, Future[Value]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value], stopped: StopSign = never) -> Value:
        """The value of `key`, made now if it is not there. Raises what `make` raises.

        Raises `Stopped` when the caller gave up while another thread was making it. When that
        other thread's caller gave up instead, this thread makes the value.
        """
        while True:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
                making = self._making.get(key)
                if making is None:
                    mine = self._making[key] = Future()
                    break
            try:
                return _wait(making, stopped)
            except Stopped:
                if stopped():
                    raise
        return self._make(key, mine, make)

    def _make(self, key: Hashable, mine: Future[Value], make: Callable[[], Value]) -> Value:
        try:
            value = make()
        except BaseException as error:  # whatever it is, those who wait must hear of it
            with self._lock:
                del self._making[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._keep(key, value)
        mine.set_result(value)
        return value

    def _keep(self, key: Hashable, value: Value) -> None:
        size = self._size(value)
        if size > self._capacity:
            return
        self._kept[key] = value
        self._room -= size
        while self._room < 0:
            _, oldest = self._kept.popitem(last=False)
            self._room += self._size(oldest)


def _wait(making: Future[Value], stopped: StopSign) -> Value:
    while not stopped():
        try:
            return making.result(POLL_S)
        except TimeoutError:
            if making.done():  # the maker's own timeout, not ours
                raise
    raise Stopped
