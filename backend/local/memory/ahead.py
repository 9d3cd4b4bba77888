"""Ahead: files that people will probably ask about, cut and encoded before they do.

    the page: expect(session, files)   a preparing thread: next_uncut() … cut()   the worker: step()

Hints only. What fails here is told when somebody asks; what nobody wants any more is dropped
between two batches of tiles. It knows neither torch nor how files are read.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from backend.conversation import Attachment
from backend.local.preparation import Cut

MOST_SESSIONS = 64  # whoever hinted longest ago is forgotten first


class _Stage(Enum):
    NEW = auto()
    CUTTING = auto()
    CUT = auto()
    TAKEN = auto()


@dataclass(eq=False, slots=True)
class _Work:
    """How far a file is."""

    stage: _Stage = _Stage.NEW
    cut: Cut | None = None


class Ahead:
    """Which files are wanted, and how far each is. Thread-safe."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """`wake` is called when there is something to encode."""
        self._wake = wake
        self._changed = threading.Condition()
        self._hints: OrderedDict[str, tuple[Attachment, ...]] = OrderedDict()
        self._work: OrderedDict[Attachment, _Work] = OrderedDict()
        self._shut = False

    def expect(self, session: str, files: tuple[Attachment, ...]) -> None:
        """`session` will ask about these files alone; work on what others want goes on."""
        with self._changed:
            self._hints.pop(session, None)
            if files and not self._shut:
                self._hints[session] = files
            while len(self._hints) > MOST_SESSIONS:
                self._hints.popitem(last=False)
            wanted = dict.fromkeys(file for hinted in self._hints.values() for file in hinted)
            # In one go: `wants` looks without the lock.
            self._work = OrderedDict((file, self._work.get(file) or _Work()) for file in wanted)
            self._changed.notify_all()

    @property
    def is_shut(self) -> bool:
        """Whether nobody is served any more."""
        return self._shut

    def wants(self, file: Attachment) -> bool:
        """Whether anybody still expects to ask about it."""
        return file in self._work

    def unwanted(self, file: Attachment) -> Callable[[], bool]:
        """Whether nobody wants it any more, as those who read files ask it."""
        return lambda: not self.wants(file)

    def next_uncut(self) -> Attachment | None:
        """Wait for a file to cut; `None` once shut."""
        with self._changed:
            while not self._shut:
                for file, work in self._work.items():
                    if work.stage is _Stage.NEW:
                        work.stage = _Stage.CUTTING
                        return file
                self._changed.wait()
        return None

    def cut(self, file: Attachment, cut: Cut) -> None:
        """The tiles of a file, ready to be encoded."""
        with self._changed:
            work = self._work.get(file)
            if work is None:
                return
            work.stage, work.cut = _Stage.CUT, cut
        self._wake()

    @property
    def has_cut(self) -> bool:
        """Whether there is something to encode."""
        with self._changed:
            return any(work.stage is _Stage.CUT for work in self._work.values())

    def take_cut(self) -> tuple[Attachment, Cut] | None:
        """The next file to encode, its tiles no longer held here."""
        with self._changed:
            for file, work in self._work.items():
                if work.cut is not None:
                    cut, work.cut, work.stage = work.cut, None, _Stage.TAKEN
                    return file, cut
        return None

    def shut(self) -> None:
        """Nobody wants anything any more."""
        with self._changed:
            self._shut = True
            self._hints.clear()
            self._work.clear()
            self._changed.notify_all()


@dataclass(frozen=True, eq=False, slots=True)
class Interest:
    """Whether it is still worth while to work on a file."""

    ahead: Ahead
    file: Attachment

    @property
    def wanted(self) -> bool:
        """Whether anybody expects to ask about it; looked at between batches."""
        return self.ahead.wants(self.file)

    @property
    def closed(self) -> bool:
        """Whether the model is wanted no more; looked at before each layer."""
        return self.ahead.is_shut


class Encoding:
    """The worker's side: encodes what is wanted, one batch of tiles at a time."""

    def __init__(self, ahead: Ahead, encode: Callable[[Cut, Interest], Iterator[None]]) -> None:
        """`encode` takes one batch with each step, and ends early without interest."""
        self._ahead = ahead
        self._encode = encode
        self._steps: Iterator[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self._steps is None and not self._ahead.has_cut

    def step(self) -> None:
        """Encode one batch, if there is one. Raises what `encode` raises; that file is dropped."""
        steps, self._steps = self._steps or self._begin(), None
        for _ in steps:
            self._steps = steps
            return

    def _begin(self) -> Iterator[None]:
        taken = self._ahead.take_cut()
        if taken is None:
            return iter(())
        file, cut = taken
        return self._encode(cut, Interest(self._ahead, file))
