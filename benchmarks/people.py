"""Several people at once: tokens a second and the wait for the first one, on two cores.

Against our own engine answering one at a time, against `transformers serve`, and for one person
against bare `generate()`. Everybody has a picture of four tiles that nobody has seen, and gets 64
tokens, a crowd once 256. All on one random checkpoint, in one run.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from backend.settings import OFF, ON
from benchmarks.measurement import (
    Goal,
    Measurement,
    Pair,
    at_least,
    ours_of,
    rival_of,
    share_of,
    times_better,
)
from benchmarks.people_lab import (
    ANSWER,
    GOOD_FIRST_S,
    GOOD_GAP_S,
    LONG_ANSWER,
    QUESTION,
    TILE,
    TILES,
    VISION,
    PeopleLab,
    Served,
)
from benchmarks.serve_rival import NoRival, running_rival
from benchmarks.weights import make_checkpoint

CROWDS, QUICK_CROWDS = (1, 2, 4, 8, 16), (1, 8)
ROUNDS, QUICK_ROUNDS = 3, 2
GOAL_OF = 8  # people
GOOD = f"answers begun within {GOOD_FIRST_S:g} s at {GOOD_GAP_S * 1e3:g} ms a token (goodput)"
QUICKER, SOONER, THAN_SERVE, OF_BARE = 3.5, 5, 3, 0.97


def measure(quick: bool) -> Iterator[Measurement]:
    """The one person, the crowds, and the rival server where that can be had."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(Path(folder) / "checkpoint", TILE, VISION)
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        lab = PeopleLab(checkpoint, pictures)
        try:
            for batching in (ON, OFF):
                lab.serve(batching, lab.draw(2))  # the first of a kind is slower
            yield report_alone(lab, rounds)
            for people in QUICK_CROWDS if quick else CROWDS:
                yield from report_crowd(lab, people, rounds)
            if not quick:
                yield from report_crowd(lab, GOAL_OF, rounds, LONG_ANSWER)
            yield from report_arrivals(lab, GOAL_OF, rounds)
            try:
                yield from report_server(lab, checkpoint, Path(folder) / "served", rounds)
            except NoRival as reason:
                print(f"transformers serve was not measured: {reason}", file=sys.stderr)
        finally:
            lab.close()


def report_alone(lab: PeopleLab, rounds: int) -> Measurement:
    """One person's tokens a second, beside bare `generate()` on the same prompt."""
    pairs = []
    for picture in lab.draw(2 * rounds):
        bare = lab.write_bare(picture)
        pairs.append(Pair(lab.write_alone(OFF, picture), bare))  # as whoever is alone is answered
    ratio = share_of(pairs)
    return Measurement(
        "1 person, decode, rival: bare generate()",
        "tokens/s",
        ours_of(pairs),
        rival_of(pairs),
        ratio,
        at_least(ratio.median, OF_BARE),
    )


def report_crowd(
    lab: PeopleLab, people: int, rounds: int, answer: int = ANSWER
) -> Iterator[Measurement]:
    """Everybody asks in the same moment."""
    served = [serve_both(lab, people, number, answer=answer) for number in range(rounds)]
    length = "" if answer == ANSWER else f", answers of {answer} tokens"
    what = f"{people} {_people(people)} at once{length}"
    yield from compare(what, served, people == GOAL_OF)


def report_arrivals(lab: PeopleLab, people: int, rounds: int) -> Iterator[Measurement]:
    """People come by chance, twice as quickly as they could be answered one after another."""
    served = []
    for number in range(rounds):
        (alone,) = lab.draw(1)
        gap_s = ANSWER / lab.serve(OFF, [alone]).tokens_per_s / 2
        served.append(serve_both(lab, people, number, gap_s))
    yield from compare(f"{people} people by chance (Poisson)", served, False)


def serve_both(
    lab: PeopleLab, people: int, number: int, gap_s: float = 0, answer: int = ANSWER
) -> tuple[Served, Served]:
    """The same crowd before both engines, which must say the same; they take turns to be first."""
    pictures = lab.draw(people)
    order = (ON, OFF) if number % 2 else (OFF, ON)
    served = {batching: lab.serve(batching, pictures, gap_s, answer) for batching in order}
    ours, rival = served[ON], served[OFF]
    if ours.answers != rival.answers:
        raise RuntimeError("the two ways to answer do not say the same")
    return ours, rival


def compare(
    what: str, served: Sequence[tuple[Served, Served]], aims: bool
) -> Iterator[Measurement]:
    """Tokens a second, then the wait for the first one."""
    speeds = [Pair(ours.tokens_per_s, rival.tokens_per_s) for ours, rival in served]
    waits = [Pair(ours.first_s, rival.first_s) for ours, rival in served]
    quicker, sooner = share_of(speeds), times_better(waits)
    yield Measurement(
        f"{what}, rival: one at a time",
        "tokens/s",
        ours_of(speeds),
        rival_of(speeds),
        quicker,
        at_least(quicker.median, QUICKER) if aims else None,
    )
    goal: Goal | None = at_least(sooner.median, SOONER) if aims else None
    name = f"{what} → first token, mean, rival: one at a time"
    yield Measurement(name, "ms", ours_of(waits, 1e3), rival_of(waits, 1e3), sooner, goal)
    if what.startswith(f"{GOAL_OF} "):
        yield from look_closely(what, served)


def look_closely(what: str, served: Sequence[tuple[Served, Served]]) -> Iterator[Measurement]:
    """How evenly tokens came, and how many answers were good ones."""
    for which, pick in (("median", 0.5), ("p99", 0.99)):
        gaps = [Pair(*(_at(one.gaps_s, pick) for one in both)) for both in served]
        name = f"{what} → between tokens, {which}, rival: one at a time"
        yield Measurement(name, "ms", ours_of(gaps, 1e3), rival_of(gaps, 1e3), times_better(gaps))
    for which, figures in (
        ("answers", [Pair(*(one.requests_per_s for one in both)) for both in served]),
        (GOOD, [Pair(*(one.good_per_s for one in both)) for both in served]),
    ):
        ratio = share_of(figures) if all(one.rival for one in figures) else None
        name = f"{what} → {which}, rival: one at a time"
        yield Measurement(name, "per s", ours_of(figures), rival_of(figures), ratio)


def _at(values: Sequence[float], share: float) -> float:
    """The value below which so many of them lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def report_server(
    lab: PeopleLab, checkpoint: Path, folder: Path, rounds: int
) -> Iterator[Measurement]:
    """The same crowd before `transformers serve`, which reads the same pictures as data: URLs."""
    shutil.copytree(checkpoint, folder)
    speeds, waits = [], []
    with running_rival(folder, TILES) as rival:
        rival.answer_all(QUESTION, lab.draw(1), ANSWER)
        for _ in range(rounds):
            pictures = lab.draw(GOAL_OF)
            ours = lab.serve(ON, pictures)
            served = rival.answer_all(QUESTION, pictures, ANSWER)
            whole_s = max(one.whole_s for one in served)
            theirs = sum(one.tokens for one in served) / whole_s
            speeds.append(Pair(ours.tokens_per_s, theirs))
            waits.append(Pair(ours.first_s, fmean(one.first_s for one in served)))
    quicker = share_of(speeds)
    yield Measurement(
        f"{GOAL_OF} people at once, rival: transformers serve",
        "tokens/s",
        ours_of(speeds),
        rival_of(speeds),
        quicker,
        at_least(quicker.median, THAN_SERVE),
    )
    yield Measurement(
        f"{GOAL_OF} people at once → first token, mean, rival: transformers serve",
        "ms",
        ours_of(waits, 1e3),
        rival_of(waits, 1e3),
        times_better(waits),
    )


def _people(count: int) -> str:
    return "person" if count == 1 else "people"
