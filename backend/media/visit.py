"""Visits to the decoding child: start it, ask it, and see to its end, whatever it does.

The child is a process group of its own with limits on memory and processor time; this side holds
the wall clock and kills. Knows no videos.
"""

import logging
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

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
CHILD = (sys.executable, "-m", "backend.media.child")
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each maps memory of its own

Message = tuple[Tag, bytes]


class TimedOut(Exception):
    """The child took too long."""


class Broke(Exception):
    """The child ended without saying everything, or said what nobody asked for."""


@dataclass(slots=True)
class _Heard:
    """What the reading thread got from the child."""

    messages: list[Message] = field(default_factory=list)
    sound: bool = True


def visit(
    ask: Ask,
    most_bytes: int,
    seconds: float,
    stopped: StopSign,
    command: tuple[str, ...] = CHILD,
) -> list[Message]:
    """Everything a new child answers to `ask`, END or FAULT last.

    Raises `Stopped`, `TimedOut`, and `Broke` for a child that crashed, was killed by its limits,
    or sent more than `most_bytes`. The child is gone when this returns, however it returns.
    """
    child = _start(command)
    assert child.stdin and child.stdout
    heard = _Heard()
    ear = threading.Thread(target=_listen, args=(child.stdout, most_bytes, heard), daemon=True)
    ear.start()
    try:
        _say(child.stdin, ask)
        _await(ear, seconds, stopped)
    finally:
        _end(child)
        ear.join()
        child.stdout.close()
    if not heard.sound or not heard.messages or heard.messages[-1][0] not in (Tag.END, Tag.FAULT):
        logger.info("decoding child broke: exit status %s", child.returncode)
        raise Broke
    return heard.messages


def _start(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, **ONE_THREAD},
        start_new_session=True,
    )


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


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and everything it started; it has said what it had to say."""
    assert child.stdin
    with suppress(ProcessLookupError, PermissionError):  # a zombie that waits to be asked for
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()
    with suppress(OSError):  # the rest of a request that a dead child did not read
        child.stdin.close()
