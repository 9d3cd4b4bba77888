"""All measurements by name. A name is a module here with `measure(quick)`, imported when asked."""

from collections.abc import Iterator, Sequence
from importlib import import_module

from benchmarks.measurement import Measurement

NAMES = (
    *("stop", "streamer", "tiling", "video", "flush"),
    *("people", "chat", "memory", "sizing", "gateway"),
)

ON_REQUEST = ("gpu",)  # what a usual machine cannot run


class NotHere(Exception):
    """This machine cannot run a measurement; the text tells why, and where it can be run."""


def measure(names: Sequence[str], quick: bool) -> Iterator[Measurement]:
    """The measurements of these modules, as they come; `quick` takes fewer and smaller tries.

    Raises `NotHere`, after all others, for those that this machine cannot run.
    """
    missed: list[str] = []
    for name in names:
        try:
            yield from import_module(f"benchmarks.{name}").measure(quick)
        except NotHere as reason:
            missed.append(f"{name} was not run here: {reason}")
    if missed:
        raise NotHere("\n".join(missed))
