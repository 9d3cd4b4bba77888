"""How far a loading is, over its two stages: fetching, if anything has to come, and placing."""

from collections.abc import Callable
from typing import Protocol

from backend.planner.devices import GB

FETCHING = 0.9  # of the whole; placing reads a disk, fetching a network
MB = GB // 1000
Share = Callable[[float], None]  # is told the share done of one stage; may raise to stop


class Report(Protocol):
    """Is told the share done, 0…1, and may raise to stop. Without a word it is placing."""

    def __call__(self, share: float, doing: str = ...) -> None:
        """Take note."""
        ...


class Stages:
    """Makes one share of two: `follow` is for the fetching, `place` for the placing after it."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._fetched = 0.0  # what of the whole the fetching came to

    def follow(self, done: int, total: int) -> None:
        """So many bytes are here of all that have to come; 0 of 0 while that is not known."""
        if not total:
            self._report(0.0, "asking the hub")
            return
        self._fetched = FETCHING * done / total
        self._report(self._fetched, describe_fetching(done, total))

    @property
    def place(self) -> Share:
        """A report for the placing alone, 0…1; the caller's own where nothing was fetched."""
        if not self._fetched:
            return self._report
        return lambda share: self._report(self._fetched + (1 - self._fetched) * share)


def describe_fetching(done: int, total: int) -> str:
    """`downloading 1.2 of 4.2 GB`."""
    if total < 0.1 * GB:
        return f"downloading {done / MB:.0f} of {total / MB:.0f} MB"
    return f"downloading {done / GB:.1f} of {total / GB:.1f} GB"
