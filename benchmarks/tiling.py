"""Tiling: from a JPEG to the pixels that the model sees, against the model card's code.

Both open the file, resize, cut and normalise; the card does so in one thread, tile by tile, ours
cuts on the reader's small pool and normalises as `backend.local.model` does. Time is what a person
waits; the processor's time of both is told beside it, since a pool gains nothing on busy cores.
Nothing is kept from one try to the next. How exact each way is stands in rows of its own.

In processor time the exact way cannot win much: of the card's 300 ms or so for 12 MP, 60 decode the
JPEG and 185 are Pillow's two resizes, both of which the same pixels take. Only further free cores
make it quicker, since strips are resized while the rest is still decoded.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from backend.local.pixels import normalise
from backend.media.reader import MediaReader
from backend.media.recognise import attach
from benchmarks import card
from benchmarks.material import draw_page, make_photograph
from benchmarks.measurement import (
    Goal,
    Measurement,
    alternate,
    at_least,
    at_most,
    ours_of,
    rival_of,
    spread,
    times_better,
)

SIZES = (("12 MP photograph", 4032, 3024), ("4K photograph", 3840, 2160))
ROUNDS, QUICK_ROUNDS = 15, 3
EXACT_GOAL, FAST_GOAL = 2.0, 4.0  # times quicker
EXACT = 1e-5  # largest difference of normalised pixels
SEVERAL = 6  # files at a time


@dataclass(frozen=True, slots=True)
class Way:
    """How ours tiles, and how many times quicker than the card it should be."""

    name: str
    fast: bool
    goal: float


WAYS = (Way("exact", False, EXACT_GOAL), Way("fast", True, FAST_GOAL))


def measure(quick: bool) -> Iterator[Measurement]:
    """Differences and times for each size and way, and for several files at a time."""
    rounds, sizes = (QUICK_ROUNDS, SIZES[:1]) if quick else (ROUNDS, SIZES)
    torch.set_num_threads(1)  # the card's tensors would otherwise wait for busy cores
    with tempfile.TemporaryDirectory() as folder:
        paths = [make_photograph(Path(folder) / f"{w}.jpg", w, h) for _, w, h in sizes]
        for (name, _, _), path in zip(sizes, paths, strict=True):
            yield report_difference(name, path)
        page = Path(folder) / "page.jpg"
        draw_page(4032, 3024).save(page, "JPEG", quality=90)
        yield from report_levels([*paths, page])
        for (name, _, _), path in zip(sizes, paths, strict=True):
            for way in WAYS:
                yield from race(f"tiling a {name}, {way.name}", path, way, rounds)
        several = [paths[0]] * SEVERAL
        pairs = alternate(
            partial(ours_of_all, several), partial(card_of_all, several), rounds // 3 + 1
        )
        yield Measurement(
            f"tiling {SEVERAL} such photographs at a time, exact, rival: the card's code",
            "ms",
            ours_of(pairs, 1e3),
            rival_of(pairs, 1e3),
            times_better(pairs),
        )


def race(name: str, path: Path, way: Way, rounds: int) -> Iterator[Measurement]:
    """What a person waits, and what the processor does, against the card's code."""
    clocks = (
        ("ms", time.perf_counter, way.goal),
        ("ms of CPU", time.process_time, None),
    )
    for unit, clock, goal in clocks:
        pairs = alternate(
            partial(ours, path, fast=way.fast), partial(card.load_image, path), rounds, clock
        )
        ratio = times_better(pairs)
        told: Goal | None = None if goal is None else at_least(ratio.median, goal)
        rival = f"{name}, rival: the card's code"
        yield Measurement(rival, unit, ours_of(pairs, 1e3), rival_of(pairs, 1e3), ratio, told)


def ours(
    path: Path, tile: int = card.TILE, max_tiles: int = card.MAX_TILES, fast: bool = False
) -> NDArray[np.float32]:
    """Pixels as the product makes them, float32 [tiles, 3, tile, tile], nothing kept."""
    return normalised(MediaReader(tile, max_tiles, True, fast=fast).tiles(attach(str(path))))


def normalised(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What `backend.local.model` makes of tiles on its device before the vision tower."""
    pixels: NDArray[np.float32]
    pixels = normalise(torch.from_numpy(tiles.copy()), card.MEAN, card.STD).numpy()
    return pixels


def ours_of_all(paths: Sequence[Path]) -> list[NDArray[np.float32]]:
    """Pixels of several files, as preparing threads of the product ask for them."""
    with ThreadPoolExecutor(2) as preparing:
        return list(preparing.map(ours, paths))


def card_of_all(paths: Sequence[Path]) -> list[torch.Tensor]:
    """Pixels of several files, one after the other."""
    return [card.load_image(path) for path in paths]


def difference(path: Path, tile: int = card.TILE, max_tiles: int = card.MAX_TILES) -> float:
    """The largest difference of any value; raises `ValueError` for unlike shapes."""
    mine, theirs = ours(path, tile, max_tiles), card.load_image(path, tile, max_tiles).numpy()
    if mine.shape != theirs.shape:
        raise ValueError(f"ours are {mine.shape}, the card's {theirs.shape}")
    return float(np.abs(mine - theirs).max())


def report_difference(name: str, path: Path) -> Measurement:
    """How far ours are from the card's pixels."""
    largest = difference(path)
    return Measurement(
        f"tiling a {name}, exact: largest difference from the card's pixels",
        "",
        spread([largest]),
        goal=at_most(largest, EXACT),
    )


def report_levels(paths: Sequence[Path]) -> Iterator[Measurement]:
    """How far the fast way is from the exact one, for photographs and for the last, a page."""
    levels = []
    for path in paths:
        exact, fast = (
            MediaReader(card.TILE, card.MAX_TILES, True, fast=way.fast)
            .tiles(attach(str(path)))
            .astype(np.int16)
            for way in WAYS
        )
        levels.append(np.abs(fast - exact))
    *photographs, page = levels
    for name, of in (("photographs", photographs), ("a printed page", [page])):
        most, mean = max(int(one.max()) for one in of), float(np.mean([one.mean() for one in of]))
        yield Measurement(f"tiling {name}, fast: largest difference", "of 255", spread([most]))
        yield Measurement(f"tiling {name}, fast: mean difference", "of 255", spread([mean]))
