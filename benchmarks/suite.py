"""All measurements by name. A name is a module here with `measure(quick)`, imported when asked."""

from collections.abc import Iterator, Sequence
from importlib import import_module

from benchmarks.measurement import Measurement

NAMES = ("stop", "streamer", "tiling", "video", "flush", "chat", "memory", "sizing", "gateway")


def measure(names: Sequence[str], quick: bool) -> Iterator[Measurement]:
    """The measurements of these modules, as they come; `quick` takes fewer and smaller tries."""
    for name in names:
        yield from import_module(f"benchmarks.{name}").measure(quick)
