"""What a measurement is: our figure, the rival's, their ratio with its spread, and the goal.

Arithmetic only; knows nothing of what is measured.
"""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure was distributed over the tries of one run."""

    least: float
    median: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Goal:
    """What is aimed at, in words, and whether this run reached it."""

    text: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the report. `ours` and `rival` are in `unit`; the ratio has none.

    A figure that has no rival, as the largest difference of two results, has no ratio either.
    """

    name: str
    unit: str
    ours: Spread
    rival: Spread | None = None
    ratio: Spread | None = None
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """One try: our figure and the rival's, taken one right after the other."""

    ours: float
    rival: float


def spread(values: Sequence[float]) -> Spread:
    """The distribution of at least one value; the p99 is one of them (nearest rank)."""
    ordered = sorted(values)
    rank = math.ceil(0.99 * len(ordered)) - 1
    return Spread(ordered[0], median(ordered), ordered[rank], ordered[-1])


def times_better(pairs: Sequence[Pair]) -> Spread:
    """How many times less ours takes than the rival, try by try."""
    return spread([pair.rival / pair.ours for pair in pairs])


def share_of(pairs: Sequence[Pair]) -> Spread:
    """Ours as a multiple of the rival's figure, try by try."""
    return spread([pair.ours / pair.rival for pair in pairs])


def ours_of(pairs: Sequence[Pair], scale: float = 1) -> Spread:
    """Our figures, times `scale`."""
    return spread([pair.ours * scale for pair in pairs])


def rival_of(pairs: Sequence[Pair], scale: float = 1) -> Spread:
    """The rival's figures, times `scale`."""
    return spread([pair.rival * scale for pair in pairs])


def at_least(figure: float, bound: float) -> Goal:
    """`figure` shall be `bound` or more."""
    return Goal(f"≥ {bound:g}", figure >= bound)


def at_most(figure: float, bound: float, unit: str = "", which: str = "") -> Goal:
    """`figure` shall be `bound` or less; `which` names the figure when it is not the median."""
    return Goal(" ".join(filter(None, (which, "≤", f"{bound:g}", unit))), figure <= bound)


def alternate(
    ours: Callable[[], object],
    rival: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    ready: Callable[[], object] = lambda: None,
) -> list[Pair]:
    """Run both in turn, the other one first every second time; figures are in seconds.

    `ready` is called before each, unclocked.

    With `time.process_time` other programs on the machine hardly count; with the default the
    figure is what a person waits.
    """
    pairs = []
    for number in range(rounds):
        took = []
        for work in (rival, ours) if number % 2 else (ours, rival):
            ready()
            took.append(clocked(work, clock))
        pairs.append(Pair(*reversed(took)) if number % 2 else Pair(*took))
    return pairs


def clocked(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds that `work` takes, without a collection of garbage in between."""
    gc.collect()
    gc.disable()
    try:
        begun = clock()
        work()
        return clock() - begun
    finally:
        gc.enable()
