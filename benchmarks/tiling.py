"""Tiling: from a JPEG to the pixels that the model sees, against the model card's code.

Both open the file, resize, cut and normalise in one thread, with Pillow and float32; the card
transforms each tile by itself. CPU time of this process, since both only compute. Exactness is a
figure of its own.
"""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from backend.media.reader import MediaReader
from backend.media.recognise import attach
from backend.media.tiles import normalise
from benchmarks import card
from benchmarks.material import make_photograph
from benchmarks.measurement import (
    Measurement,
    alternate,
    at_least,
    at_most,
    ours_of,
    rival_of,
    spread,
    times_better,
)

SIZES = (("12 MP photograph", 4032, 3024), ("4K picture", 3840, 2160))
ROUNDS, QUICK_ROUNDS = 9, 3
GOAL, EXACT = 2.0, 1e-5  # times quicker; largest difference of normalised pixels


def measure(quick: bool) -> Iterator[Measurement]:
    """Time and largest difference for each size."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    torch.set_num_threads(1)  # the card's tensors would otherwise wait for busy cores
    with tempfile.TemporaryDirectory() as folder:
        for name, width, height in SIZES:
            path = make_photograph(Path(folder) / f"{width}.jpg", width, height)
            yield report_difference(name, path)
            pairs = alternate(
                partial(ours, path), partial(card.load_image, path), rounds, time.process_time
            )
            ratio = times_better(pairs)
            yield Measurement(
                f"tiling a {name}, exact, rival: the card's code",
                "ms of CPU",
                ours_of(pairs, 1e3),
                rival_of(pairs, 1e3),
                ratio,
                at_least(ratio.median, GOAL),
            )


def ours(path: Path, tile: int = card.TILE, max_tiles: int = card.MAX_TILES) -> NDArray[np.float32]:
    """Pixels as the product makes them, float32 [tiles, 3, tile, tile], nothing kept from before.

    The product normalises on the model's device; `normalise` is the same arithmetic here.
    """
    reader = MediaReader(tile, max_tiles, thumbnail=True)
    return normalise(reader.tiles(attach(str(path))), card.MEAN, card.STD)


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
        f"tiling a {name}: largest difference from the card's pixels",
        "",
        spread([largest]),
        goal=at_most(largest, EXACT),
    )
