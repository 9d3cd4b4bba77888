"""A visit to a decoding child: start it, ask it, and see to its end, whatever it does.

The child is a process group of its own with limits on memory and processor time; this side holds
the wall clock and kills. Knows no videos, and not which child is at hand (see `children`).
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from backend.media.stopping import POLL_S, Stopped, StopSign
from backend.media.wire import Ask, Tag, read_messages

ROOT = Path(__file__).parents[2]
CHILD = (sys.executable, "-m", "backend.media.child")
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each maps memory of its own

PIPE_BYTES = 1 << 20  # as much as Linux gives to anybody
LAST = (Tag.END, Tag.FAULT)

Message = tuple[Tag, bytes]


class TimedOut(Exception):
    """The child took too long."""


class Broke(Exception):
    """The child ended without saying everything, or said what nobody asked for."""


@dataclass(slots=True)
class _Heard:
    """What the reading thread got from the child for one request."""

    messages: list[Message] = field(default_factory=list)
    sound: bool = True

    @property
    def complete(self) -> bool:
        """Whether the child said all that it wanted to."""
        return self.sound and bool(self.messages) and self.messages[-1][0] in LAST


class Child:
    """A decoding child. It may be asked again about the same video, by one thread at a time."""

    def __init__(self, command: tuple[str, ...] = CHILD) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,
        )
        assert self.process.stdout
        _widen(self.process.stdout)

    @property
    def alive(self) -> bool:
        """Whether it has not ended by itself."""
        return self.process.poll() is None

    def ask(self, ask: Ask, most_bytes: int, seconds: float, stopped: StopSign) -> list[Message]:
        """Everything it answers, END or FAULT last.

        Raises `Stopped`, `TimedOut`, and `Broke` for a child that crashed, was killed by its
        limits, or sent more than `most_bytes`; after each of these it must be ended.
        """
        assert self.process.stdin and self.process.stdout
        heard = _Heard()
        ear = threading.Thread(
            target=_listen, args=(self.process.stdout, most_bytes, heard), daemon=True
        )
        ear.start()
        try:
            _say(self.process.stdin, ask)
            _await(ear, seconds, stopped)
        except BaseException:  # whatever it is, the ear hears the end of the pipe only now
            self._kill()
            ear.join()
            raise
        if not heard.complete:
            raise Broke
        return heard.messages

    def end(self) -> None:
        """Kill it and everything it started; it has said what it had to say."""
        assert self.process.stdin and self.process.stdout
        self._kill()
        self.process.wait()
        with suppress(OSError):  # the rest of a request that a dead child did not read
            self.process.stdin.close()
        self.process.stdout.close()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # a zombie that waits to be asked for
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()


def visit(
    ask: Ask,
    most_bytes: int,
    seconds: float,
    stopped: StopSign,
    command: tuple[str, ...] = CHILD,
) -> list[Message]:
    """Everything a new child answers to `ask`, as `Child.ask`; it is gone when this returns."""
    child = Child(command)
    try:
        return child.ask(ask, most_bytes, seconds, stopped)
    finally:
        child.end()


def _widen(pipe: IO[bytes]) -> None:
    """Let a whole frame lie in the pipe, so that the child decodes on; where the system can."""
    try:
        from fcntl import F_SETPIPE_SZ, fcntl
    except ImportError:
        return
    with suppress(OSError):  # a user may have so many pages in pipes and no more
        fcntl(pipe.fileno(), F_SETPIPE_SZ, PIPE_BYTES)


def _say(pipe: IO[bytes], ask: Ask) -> None:
    try:
        pipe.write(ask.line())
        pipe.flush()
    except OSError:
        return  # it is dead already; that nothing comes tells as much


def _listen(pipe: IO[bytes], most_bytes: int, heard: _Heard) -> None:
    try:
        for message in read_messages(pipe, most_bytes):
            heard.messages.append(message)
            if message[0] in LAST:
                return
    except (ValueError, OSError):
        heard.sound = False


def _await(ear: threading.Thread, seconds: float, stopped: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while True:
        ear.join(POLL_S)
        if not ear.is_alive():
            return
        if stopped():
            raise Stopped
        if time.monotonic() > deadline:
            raise TimedOut
