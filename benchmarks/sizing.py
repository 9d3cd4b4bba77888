"""How many engines a crowd needs: an engine at hand is timed, and a crowd before it simulated.

    python -m benchmarks sizing                            the bundled checkpoint, in this process
    python -m benchmarks.sizing --engine http://host:8000/v1 --people 100     an engine elsewhere
    python -m benchmarks.sizing --table                    made-up engines, for docs/deploy.md

Times are taken while the engine answers as many questions at once as it gains from.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from queue import Empty, SimpleQueue

from backend.conversation import Request
from backend.engine import Engine, State
from backend.media.recognise import attach
from backend.settings import Settings
from benchmarks.crowd import Service, enough_engines, estimate_engines, fewest_engines
from benchmarks.material import ask, make_photograph
from benchmarks.measurement import Measurement, at_most, spread
from benchmarks.report import to_table

CROWDS = (10, 100, 1000)
MOST_S = 5.0  # to the first word, for 95 of 100 questions
AT_ONCE = (1, 2, 4, 8, 16)
GAIN = 1.25  # more at once must bring a quarter more answers, or it does not pay
PASSES = 2  # over the numbers at once, since other work on the machine comes and goes
WARM_UP = 4  # answers before the first that counts
ANSWER = 128  # tokens at most
SEEDS = (1, 2, 3)
EXAMPLES = ((3.0, 1), (15.0, 1), (15.0, 8), (15.0, 32))  # seconds of an answer, and at once
FIRST_S = 1.0  # to the first word of an example's answer
QUESTION = "Please describe the image in detail."


def measure(quick: bool) -> Iterator[Measurement]:
    """The bundled checkpoint in this process, and the crowds before as many like it."""
    from backend.local.engine import LocalEngine

    engine = LocalEngine(Settings(max_queue=64))
    engine.start()
    try:
        yield from size(engine, CROWDS[:2] if quick else CROWDS, 8 if quick else 32)
    finally:
        engine.close()


def size(engine: Engine, crowds: Sequence[int], tries: int) -> Iterator[Measurement]:
    """Time an engine, and simulate the crowds before several like it."""
    wait_until_ready(engine)
    with tempfile.TemporaryDirectory() as folder:
        at_once, services = find_pace(engine, make_requests(Path(folder)), tries)
    yield Measurement(
        f"one answer, {at_once} at once: first word", "s", spread([one.first_s for one in services])
    )
    yield Measurement(
        f"one answer, {at_once} at once: whole", "s", spread([one.whole_s for one in services])
    )
    for people in crowds:
        for engines, slow in enough_engines(services, at_once, people, MOST_S, SEEDS):
            goal = at_most(max(slow), MOST_S, "s", "worst")
            name = f"{people} people, {engines} × this engine: p95 of the first word"
            yield Measurement(name, "s", spread(slow), goal=goal)


def make_requests(folder: Path) -> Iterator[Request]:
    """Questions without end, each with a picture of its own: nothing kept helps with the next."""
    for number in count():
        picture = make_photograph(folder / f"{number}.jpg", 640, 480, number)
        yield ask(QUESTION, (attach(str(picture)),), ANSWER, session=str(number))


def find_pace(engine: Engine, requests: Iterator[Request], tries: int) -> tuple[int, list[Service]]:
    """The fewest questions at once that bring almost the most answers, and those answers."""
    time_answers(engine, list(islice(requests, WARM_UP)), at_once=1)
    timed: dict[int, list[Service]] = {at_once: [] for at_once in AT_ONCE}
    spent_s = dict.fromkeys(AT_ONCE, 0.0)
    for at_once in AT_ONCE * PASSES:
        asked = list(islice(requests, max(tries // PASSES, at_once)))
        begun = time.perf_counter()
        timed[at_once] += time_answers(engine, asked, at_once)
        spent_s[at_once] += time.perf_counter() - begun
    rates = {at_once: len(timed[at_once]) / spent_s[at_once] for at_once in AT_ONCE}
    enough = max(rates.values()) / GAIN
    at_once = next(at_once for at_once, rate in rates.items() if rate >= enough)
    return at_once, timed[at_once]


def time_answers(engine: Engine, requests: Sequence[Request], at_once: int) -> list[Service]:
    """The answers to all requests, so many at once: each thread asks on as soon as it is told."""
    services: list[Service] = []
    left: SimpleQueue[Request] = SimpleQueue()
    for request in requests:
        left.put(request)

    def go_on() -> None:
        with suppress(Empty):
            while True:
                services.append(time_answer(engine, left.get_nowait()))

    run_together([go_on] * at_once)
    return services


def time_answer(engine: Engine, request: Request) -> Service:
    """One answer, read to its end."""
    begun = time.perf_counter()
    stream = engine.stream(request)
    first_s = 0.0
    for _ in stream:
        first_s = first_s or time.perf_counter() - begun
    whole_s = time.perf_counter() - begun
    return Service(first_s or whole_s, whole_s)


def run_together(work: Sequence[Callable[[], None]]) -> None:
    """Run each in a thread of its own, and wait for all."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def wait_until_ready(engine: Engine) -> None:
    """Until the model is loaded. Raises `RuntimeError` when it cannot be."""
    while (status := engine.status()).state is State.LOADING:
        time.sleep(0.05)
    if status.state is State.FAILED:
        raise RuntimeError(status.reason)


def example_table() -> str:
    """Engines for each crowd, by arithmetic and by simulation, for engines of several speeds."""
    rows = [
        ["an answer takes", *(f"{people:,} people" for people in CROWDS)],
        ["---"] * (1 + len(CROWDS)),
    ]
    for whole_s, at_once in EXAMPLES:
        services = (Service(FIRST_S, whole_s),)
        cells = [f"{whole_s:g} s, {at_once} at once"]
        for people in CROWDS:
            simulated = fewest_engines(services, at_once, people, MOST_S)
            cells.append(f"{estimate_engines(services, at_once, people)} – {simulated}")
        rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(words: Sequence[str] | None = None) -> int:
    """Size a crowd for an engine elsewhere, or tell examples."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sizing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--engine", metavar="URL", help="as app.py --engine")
    what.add_argument("--table", action="store_true", help="print a table of examples instead")
    parser.add_argument("--people", type=int, default=CROWDS[1], metavar="N")
    parser.add_argument("--tries", type=int, default=32, metavar="N", help="answers to time")
    chosen = parser.parse_args(words)
    if chosen.table:
        print(example_table())
        return 0
    from backend.remote.engine import RemoteEngine

    engine = RemoteEngine(Settings(engines=(chosen.engine,)))
    engine.start()
    try:
        print(to_table(list(size(engine, (chosen.people,), chosen.tries))))
    finally:
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
