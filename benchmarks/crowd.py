"""A crowd before some engines, simulated: who waits how long for the first word.

Pure and repeatable. A person thinks for a while, asks, reads the answer while it comes, and
thinks again; thinking times are exponential. An engine answers some questions at once and lets
the others wait in the order in which they came. A conversation stays with its engine, as
`backend.remote` does it for the sake of kept prefixes, so people are dealt out by chance and some
engines get more of them than others.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

SIMULATED_S = 3600.0
WARM_UP_S = 600.0  # until the crowd has spread out; what is asked before does not count
THINKING_S = 60.0  # between an answer and the next question
MOST_ENGINES = 4096


@dataclass(frozen=True, slots=True)
class Service:
    """One answer as it was measured: seconds until its first word, and until its end."""

    first_s: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class Site:
    """So many engines, each answering `at_once` questions as quickly as in `services`."""

    services: Sequence[Service]
    at_once: int
    engines: int


@dataclass(slots=True)
class _Engine:
    """An engine of the simulation: free places, and who waits since when."""

    free: int
    waiting: deque[float] = field(default_factory=deque)


def wait_for_first_words(
    site: Site, people: int, seed: int, thinking_s: float = THINKING_S
) -> tuple[float, ...]:
    """Seconds to the first word of every question of an hour, in the order of being served.

    Whoever still waits at the end of the hour counts with the time until then.
    """
    chance = random.Random(seed)
    engines = [_Engine(site.at_once) for _ in range(site.engines)]
    numbers = count()  # so that two events at one moment have an order
    # When somebody asks, of which engine, and whether a place there is freed by it.
    agenda = [
        (chance.expovariate(1 / thinking_s), next(numbers), chance.choice(engines), False)
        for _ in range(people)
    ]
    heapq.heapify(agenda)
    waited: list[float] = []
    while agenda[0][0] < SIMULATED_S:
        now, _, engine, frees = heapq.heappop(agenda)
        if frees:
            engine.free += 1
            ask_again = now + chance.expovariate(1 / thinking_s)
            heapq.heappush(agenda, (ask_again, next(numbers), engine, False))
        else:
            engine.waiting.append(now)
        while engine.free and engine.waiting:
            engine.free -= 1
            asked, service = engine.waiting.popleft(), chance.choice(site.services)
            heapq.heappush(agenda, (now + service.whole_s, next(numbers), engine, True))
            if asked >= WARM_UP_S:
                waited.append(now - asked + service.first_s)
    left = (asked for engine in engines for asked in engine.waiting if asked >= WARM_UP_S)
    return (*waited, *(SIMULATED_S - asked for asked in left))


def slow_first_word(site: Site, people: int, seed: int, thinking_s: float = THINKING_S) -> float:
    """The p95 of the seconds to the first word (nearest rank)."""
    waited = sorted(wait_for_first_words(site, people, seed, thinking_s))
    return waited[math.ceil(0.95 * len(waited)) - 1]


def enough_engines(
    services: Sequence[Service], at_once: int, people: int, most_s: float, seeds: Sequence[int]
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Numbers of engines, doubled until the p95 of every seed is within `most_s`, and those p95.

    The last one is enough; with `MOST_ENGINES` it is given up.
    """
    engines = 1
    while True:
        site = Site(services, at_once, engines)
        slow = tuple(slow_first_word(site, people, seed) for seed in seeds)
        yield engines, slow
        if max(slow) <= most_s or engines >= MOST_ENGINES:
            return
        engines *= 2


def fewest_engines(
    services: Sequence[Service], at_once: int, people: int, most_s: float, seed: int = 0
) -> int:
    """The least number of engines whose p95 is within `most_s`; more are taken to be quicker."""
    *_, (enough, _) = enough_engines(services, at_once, people, most_s, (seed,))
    few = enough // 2  # known not to be enough, or 0
    while enough - few > 1:
        middle = (few + enough) // 2
        if slow_first_word(Site(services, at_once, middle), people, seed) <= most_s:
            enough = middle
        else:
            few = middle
    return enough


def estimate_engines(services: Sequence[Service], at_once: int, people: int) -> int:
    """The arithmetic without a simulation: engines that are busy seven tenths of the time."""
    whole_s = sum(service.whole_s for service in services) / len(services)
    asked_per_s = people / (THINKING_S + whole_s)
    return max(1, math.ceil(asked_per_s * whole_s / at_once / 0.7))
