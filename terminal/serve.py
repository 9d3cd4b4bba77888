"""The page's place in a shell: its port, its address, how far the model is, and a clean end.

Knows neither the page nor how it is made; whoever made it waits here.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from backend.engine import State, Status
from backend.errors import BadSetting
from backend.settings import Settings
from terminal.interruption import Interruption
from terminal.notice import Notice, loading_line

LOOK_S = 0.2  # between two looks at signals and at the engine's progress
UPLOADS = "GRADIO_TEMP_DIR"  # where the page reads the place of uploads and previews


def free_port(settings: Settings) -> int:
    """The port of `settings` if it can be listened on, or any free one for 0.

    Raises `BadSetting` when it is taken or the host is not this machine's.
    """
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server does it: a port that a past run left in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise BadSetting(
            f"The page cannot be served on {host} port {port} ({error.strerror}).",
            "Choose another --port (0 takes a free one) or --host.",
        ) from error


@contextmanager
def own_folder() -> Iterator[None]:
    """While entered, uploads and previews lie in a folder of this run, which ends with it.

    Nobody else on the machine may read it. A place chosen in the environment holds it. Enter this
    before anything imports the page.
    """
    chosen = os.environ.get(UPLOADS)
    if chosen:
        os.makedirs(chosen, exist_ok=True)
    with TemporaryDirectory(prefix="chat-", dir=chosen, ignore_cleanup_errors=True) as folder:
        os.environ[UPLOADS] = folder
        try:
            yield
        finally:
            os.environ.pop(UPLOADS)
            if chosen:
                os.environ[UPLOADS] = chosen


def wait(interruption: Interruption, address: str, status: Callable[[], Status]) -> None:
    """Say where the page is and how far the model is, also a later one, until a signal comes."""
    print(f"The page is on {address}", flush=True)
    notice = Notice(sys.stderr)
    said = ""
    while not interruption.came:
        now = status()
        if now.state is State.LOADING:
            notice.show(loading_line(now))
            said = ""
        elif (outcome := _outcome(now)) != said:
            notice.clear()
            print(outcome, flush=True)
            said = outcome
        interruption.wait(LOOK_S)
    notice.clear()


def _outcome(status: Status) -> str:
    if status.state is State.FAILED:
        return f"{status.model} cannot answer: {status.reason}"
    attention = f" with {status.attention}" if status.attention else ""
    several = f", {status.batching}" if status.batching else ""
    how = f" in {status.precision}{attention}{several}" if status.precision else ""
    where = f"on {status.device}{how}"
    return f"{status.model} answers {where}. Ctrl-C ends it."
