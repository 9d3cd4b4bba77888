"""Waiting for what happens elsewhere: in another thread, or in another process at a free port."""

import socket
import time
from collections.abc import Callable

PATIENCE_S = 120.0  # a busy machine takes half a minute to import torch


def wait_until(
    holds: Callable[[], object], what: str = "it did not happen", patience_s: float = PATIENCE_S
) -> None:
    """Return once `holds` does; fail with `what` when it never does."""
    until = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.005)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
