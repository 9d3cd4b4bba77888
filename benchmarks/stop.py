"""Stop: how long the model works on after a person gave up.

Stopped at random moments while the model writes, while it reads a long prompt, and in the queue,
through the engine and counted in decode steps; then through the served page, as a browser does
it. The rival is the model card's way, in which nothing stops an answer.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import stop_page
from benchmarks.material import ask, long_question
from benchmarks.measurement import (
    Measurement,
    Pair,
    at_most,
    ours_of,
    rival_of,
    share_of,
    spread,
    times_better,
)
from benchmarks.stop_lab import ANSWER, Lab, Try, Waited
from benchmarks.watched import start_watched

TRIES, QUICK_TRIES = 50, 5
CARD_TRIES, QUICK_CARD_TRIES = 10, 2
PICTURES, WORDS = 6, 6  # of the long question


def measure(quick: bool) -> Iterator[Measurement]:
    """The engine's figures, then the page's."""
    tries = QUICK_TRIES if quick else TRIES
    with tempfile.TemporaryDirectory() as folder:
        engine, watch = start_watched()
        try:
            question, files = long_question(Path(folder), PICTURES, WORDS)
            lab = Lab(engine, watch, ask(question, files, most=ANSWER))
            lab.read_through(lab.long)  # the first of a kind is slower
            yield from report_writing(lab.stop_writing(tries))
            yield from report_reading(lab.stop_reading(tries))
            yield from report_waiting(lab.stop_waiting(tries))
            card = lab.leave_card(QUICK_CARD_TRIES if quick else CARD_TRIES)
            yield report_card(card)
            yield from stop_page.measure(lab, tries, rival_of(card))
        finally:
            engine.close()


def report_writing(tries: Sequence[Try]) -> Iterator[Measurement]:
    """Against one decode step, in time and in steps that began after the Stop."""
    yield in_steps("Stop while writing → model idle", tries)
    most = max(tried.steps_after for tried in tries)
    yield Measurement(
        "Stop while writing: decode steps begun afterwards",
        "steps",
        spread([tried.steps_after for tried in tries]),
        goal=at_most(most, 1, which="every try"),
    )


def report_reading(tries: Sequence[Try]) -> Iterator[Measurement]:
    """Against one decode step and against the longest layer of the same prefill."""
    yield in_steps("Stop in prefill → model idle", tries)
    pairs = [Pair(tried.idle_s, tried.layer_s) for tried in tries]
    ratio = share_of(pairs)
    yield Measurement(
        "Stop in prefill → model idle, rival: its longest layer",
        "ms",
        ours_of(pairs, 1e3),
        rival_of(pairs, 1e3),
        ratio,
        at_most(ratio.most, 1, which="every try"),
    )
    most = max(tried.layers_after for tried in tries)
    yield Measurement(
        "Stop in prefill: layers begun afterwards",
        "layers",
        spread([tried.layers_after for tried in tries]),
        goal=at_most(most, 1, which="every try"),
    )


def report_waiting(tries: Sequence[Waited]) -> Iterator[Measurement]:
    """Against one decode step of the answer before it; none may ever be begun."""
    pairs = [Pair(tried.free_s, tried.step_s) for tried in tries]
    ratio = share_of(pairs)
    yield Measurement(
        "Stop in the queue → reader free, rival: one decode step",
        "ms",
        ours_of(pairs, 1e3),
        rival_of(pairs, 1e3),
        ratio,
        at_most(ratio.most, 1, which="every try"),
    )
    begun = [int(tried.begun) for tried in tries]
    yield Measurement(
        "Stop in the queue: answers begun all the same",
        "answers",
        spread(begun),
        goal=at_most(max(begun), 0, which="every try"),
    )


def report_card(pairs: Sequence[Pair]) -> Measurement:
    """Against the card's way with an answer of `ANSWER` tokens."""
    return Measurement(
        f"reader gone while writing → model idle, rival: the card's way, {ANSWER} tokens",
        "ms",
        ours_of(pairs, 1e3),
        rival_of(pairs, 1e3),
        times_better(pairs),
    )


def in_steps(name: str, tries: Sequence[Try]) -> Measurement:
    """Time until the model was idle, beside a decode step of the same prompt."""
    pairs = [Pair(tried.idle_s, tried.step_s) for tried in tries]
    ratio = share_of(pairs)
    return Measurement(
        f"{name}, rival: one decode step",
        "ms",
        ours_of(pairs, 1e3),
        rival_of(pairs, 1e3),
        ratio,
        at_most(ratio.most, 1, which="every try"),
    )
