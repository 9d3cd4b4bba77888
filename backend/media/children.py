"""The decoding children at hand: one started ahead, and those that have a video open already.

To start a child takes longer than to decode a short video. So one waits, its imports done, for
whichever video comes, and the one that told a video's frames stays to cut them. They wait at
their pipes, and end with the app.
"""

import os
import threading
import time
import weakref
from dataclasses import dataclass

from backend.media.stopping import StopSign
from backend.media.visit import Child, Message
from backend.media.wire import PATIENCE_S, Ask, Tag

MOST_WAITING = 3  # each with a decoder's memory
STALE_S = PATIENCE_S / 2  # well before the child itself gives up


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A child that waits, and the video that it has open, if any."""

    child: Child
    video: tuple[object, ...] | None
    since: float


class Children:
    """Visits to children that were started ahead where possible. Thread-safe.

    No child sees two videos. A visit that finds none at hand starts one, so that several videos
    are decoded at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        weakref.finalize(self, _end_all, self._waiting)

    def prepare(self) -> None:
        """See to it that a child waits for the next video. Returns at once."""
        with self._lock:
            self._end_some()
            if not any(waiting.video is None for waiting in self._waiting):
                self._waiting.append(_Waiting(Child(), None, time.monotonic()))

    def visit(self, ask: Ask, most_bytes: int, seconds: float, stopped: StopSign) -> list[Message]:
        """As `Child.ask`. A child that told the index of a video waits for the next question."""
        video = _identify(ask.path)
        child = self._take(video if ask.targets else None) or Child()
        stays = False
        try:
            messages = child.ask(ask, most_bytes, seconds, stopped)
            stays = not ask.targets and messages[-1][0] is Tag.END
        finally:
            if not stays:
                child.end()
                self.prepare()
        if stays:
            self._keep(_Waiting(child, video, time.monotonic()))
        return messages

    def _take(self, video: tuple[object, ...] | None) -> Child | None:
        """The child that has this video open, else one that has none."""
        with self._lock:
            self._end_some()
            for wanted in (video, None):
                for waiting in self._waiting:
                    if waiting.video == wanted:
                        self._waiting.remove(waiting)
                        return waiting.child
        return None

    def _keep(self, waiting: _Waiting) -> None:
        with self._lock:
            self._waiting.append(waiting)
            self._end_some()

    def _end_some(self) -> None:
        """End those that died, that nobody came back to, and the oldest of too many."""
        stale = time.monotonic() - STALE_S
        engaged = [waiting for waiting in self._waiting if waiting.video]
        for waiting in self._waiting[:]:
            left = waiting in engaged[:-MOST_WAITING] or (waiting.video and waiting.since < stale)
            if left or not waiting.child.alive:
                self._waiting.remove(waiting)
                waiting.child.end()


def _identify(path: str) -> tuple[object, ...]:
    """What changes when another file takes the path."""
    try:
        found = os.stat(path)
    except OSError:
        return (path,)
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _end_all(waiting: list[_Waiting]) -> None:
    for one in waiting:
        one.child.end()
    waiting.clear()
