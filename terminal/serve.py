"""The page's place in a shell: its port, its address, how far the model is, and a clean end.

Knows neither the page nor how it is made; whoever made it waits here.
"""

import socket
import sys
from collections.abc import Callable

from backend.engine import State, Status
from backend.errors import BadSetting
from backend.settings import Settings
from terminal.interruption import Interruption
from terminal.notice import Notice, loading_line

LOOK_S = 0.2  # between two looks at signals and at the engine's progress


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


def wait(interruption: Interruption, address: str, status: Callable[[], Status]) -> None:
    """Say where the page is and how far the model is, until a signal comes."""
    print(f"The page is on {address}", flush=True)
    notice = Notice(sys.stderr)
    while (now := status()).state is State.LOADING and not interruption.came:
        notice.show(loading_line(now))
        interruption.wait(LOOK_S)
    notice.clear()
    if not interruption.came:
        print(_outcome(now), flush=True)
    interruption.wait(None)


def _outcome(status: Status) -> str:
    if status.state is State.FAILED:
        return f"{status.model} cannot answer: {status.reason}"
    attention = f" with {status.attention}" if status.attention else ""
    where = f"on {status.device} in {status.precision}{attention}"
    return f"{status.model} answers {where}. Ctrl-C ends it."
