"""How a caller who no longer wants a file ends the work on it."""

from collections.abc import Callable

POLL_S = 0.02  # between two questions to `stopped`

StopSign = Callable[[], bool]


class Stopped(Exception):
    """The caller's `stopped()` became true before the file was ready."""


def never() -> bool:
    """The stop sign of a caller who waits to the end."""
    return False
