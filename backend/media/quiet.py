"""Silence of Python's warnings, shared by the threads that want it at the same time.

The filters of warnings belong to the whole process, and `warnings.catch_warnings` in two threads
may leave them changed for ever. Here the first one in changes them and the last one out puts them
back; those in between need not wait for each other.
"""

import threading
import warnings


class Quiet:
    """A context in which no thread is warned. Thread-safe and reentrant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._former = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._former = warnings.catch_warnings()
                self._former.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._former.__exit__(None, None, None)
