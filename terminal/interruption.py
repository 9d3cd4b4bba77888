"""Ctrl-C and SIGTERM as a fact to look at, instead of an exception in the midst of something."""

import signal
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NAP_S = 0.2  # Python goes on sleeping after a signal's handler


class Interruption:
    """While entered, the first signal is noted; a second one does what it did before.

    Only the main thread may enter it (Python delivers signals there).
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def came(self) -> bool:
        """Whether a person, or the system, wants this to end."""
        return self.number is not None

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells have it; 0 without one."""
        return 0 if self.number is None else 128 + self.number

    def wait(self, longest_s: float) -> None:
        """Sleep until a signal comes, at most so long."""
        until = time.monotonic() + longest_s
        while not self.came and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, NAP_S))

    def __enter__(self) -> "Interruption":
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
