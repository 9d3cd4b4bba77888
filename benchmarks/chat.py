"""A conversation of four turns over two pictures: how long a person waits for the first word.

Against the model card's way on the same weights in the same process: it encodes both pictures and
reads the whole history anew in every turn. What it could have ready is given to it: its pixels are
cut once, in the first turn, its prompts are token ids already, and the first token counts, though
its stock streamer holds back the word until the next space. It has as many threads of torch as
ours, and once more all cores.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.chat_lab import ChatLab, Round
from benchmarks.measurement import (
    Measurement,
    Pair,
    at_least,
    ours_of,
    rival_of,
    spread,
    times_better,
)
from benchmarks.weights import make_checkpoint

ROUNDS, QUICK_ROUNDS = 9, 2
ON_ALL_CORES = ", rival: the card's way on all cores"


def measure(quick: bool) -> Iterator[Measurement]:
    """Time to first token by turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab = ChatLab(make_checkpoint(folder / "weights"), folder)
        try:
            lab.run_round(0)  # the first of a kind is slower
            numbers = range(1, 1 + (QUICK_ROUNDS if quick else ROUNDS))
            rounds = [lab.run_round(number, thorough=not quick) for number in numbers]
        finally:
            lab.engine.close()
    yield from report(rounds)


def report(rounds: Sequence[Round]) -> Iterator[Measurement]:
    """The first turn twice, the later ones together, and what of them needed no reading."""
    yield from against("", [(one, one.rival) for one in rounds])
    if all(one.on_all_cores for one in rounds):
        yield from against(ON_ALL_CORES, [(one, one.on_all_cores) for one in rounds])
    kept = spread([100 * share for one in rounds for share in one.kept[1:]])
    yield Measurement("Tokens of turns 2–4 that needed no reading (hit rate)", "%", kept)


def against(
    manner: str, rounds: Sequence[tuple[Round, tuple[float, ...]]]
) -> Iterator[Measurement]:
    """Our turns beside what the rival took in some manner."""
    fresh = [Pair(one.ours[0], rival[0]) for one, rival in rounds]
    typed = [Pair(one.typed, rival[0]) for one, rival in rounds]
    later = [
        Pair(*turn) for one, rival in rounds for turn in zip(one.ours[1:], rival[1:], strict=True)
    ]
    yield first_word(f"First token, turn 1, asked at once{manner}", fresh)
    yield first_word(f"First token, turn 1, typed 2 s after the upload{manner}", typed, 3)
    yield first_word(f"First token, turns 2–4 on 26 tiles{manner}", later, 30)


def first_word(name: str, pairs: Sequence[Pair], goal: float | None = None) -> Measurement:
    """One line, in milliseconds."""
    ratio = times_better(pairs)
    holds = None if goal is None else at_least(ratio.median, goal)
    return Measurement(name, "ms", ours_of(pairs, 1e3), rival_of(pairs, 1e3), ratio, holds)
