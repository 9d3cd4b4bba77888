"""Video: from a file to the pixels of its frames, against decord as the model card uses it.

Ours decodes with PyAV in a child process that can be killed, whose start is counted; decord runs
in this process. Time is what a person waits. Equality is a figure of its own.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from backend.media.reader import MediaReader
from backend.media.recognise import attach
from backend.media.tiles import normalise
from benchmarks import card
from benchmarks.material import make_video
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

SAMPLES = (8, 32)  # frames
ROUNDS, QUICK_ROUNDS = 7, 3
EXACT = 1e-5  # largest difference of normalised pixels


@dataclass(frozen=True, slots=True)
class Film:
    """A video to make: size in px and length in seconds."""

    width: int
    height: int
    seconds: int


FILM, QUICK_FILM = Film(1280, 720, 40), Film(640, 360, 12)


def measure(quick: bool) -> Iterator[Measurement]:
    """Time and largest difference for each number of frames."""
    film, rounds = (QUICK_FILM, QUICK_ROUNDS) if quick else (FILM, ROUNDS)
    torch.set_num_threads(1)  # the card's tensors would otherwise wait for busy cores
    with tempfile.TemporaryDirectory() as folder:
        path = make_video(Path(folder) / "film.mp4", film.width, film.height, film.seconds)
        for samples in SAMPLES:
            what = f"{samples} frames of {film.seconds} s, {film.width} × {film.height}"
            largest = difference(path, samples)
            yield Measurement(
                f"video, {what}: largest difference from decord's pixels",
                "",
                spread([largest]),
                goal=at_most(largest, EXACT),
            )
            pairs = alternate(
                partial(ours, path, samples), partial(card.load_video, path, samples), rounds
            )
            ratio = times_better(pairs)
            yield Measurement(
                f"video, {what}, rival: decord in this process",
                "ms",
                ours_of(pairs, 1e3),
                rival_of(pairs, 1e3),
                ratio,
                at_least(ratio.median, 1),
            )


def ours(path: Path, samples: int, tile: int = card.TILE) -> NDArray[np.float32]:
    """Pixels as the product makes them, float32 [samples, 3, tile, tile], nothing kept."""
    reader = MediaReader(tile, card.MAX_TILES, thumbnail=True, frames=samples)
    return normalise(reader.tiles(attach(str(path))), card.MEAN, card.STD)


def difference(path: Path, samples: int, tile: int = card.TILE) -> float:
    """The largest difference of any value; raises `ValueError` for unlike shapes."""
    mine, theirs = ours(path, samples, tile), card.load_video(path, samples, tile).numpy()
    if mine.shape != theirs.shape:
        raise ValueError(f"ours are {mine.shape}, the card's {theirs.shape}")
    return float(np.abs(mine - theirs).max())
