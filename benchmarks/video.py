"""Video: from a file to the pixels of its frames, against decord as the model card uses it.

Ours decodes with PyAV in a child process that can be killed; decord runs in this process. As in
the product, a child waits when the video comes; that it was started is part of no try of either.
Time is what a person waits. Equality is a figure of its own, and so is memory: how much more the
children take at most for a video four times as long.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from backend.media.reader import MediaReader
from backend.media.recognise import attach
from benchmarks import card
from benchmarks.machine import ROOT
from benchmarks.material import make_video
from benchmarks.measurement import (
    Measurement,
    Pair,
    alternate,
    at_least,
    at_most,
    ours_of,
    rival_of,
    share_of,
    spread,
    times_better,
)
from benchmarks.tiling import normalised

SAMPLES = (8, 32)  # frames
ROUNDS, QUICK_ROUNDS = 7, 2
EXACT = 1e-5  # largest difference of normalised pixels
POLL_S, QUIET_POLLS = 0.1, 5  # until a child surely waits
FLAT = 1.1  # times the memory


@dataclass(frozen=True, slots=True)
class Film:
    """A video to make: size in px and length in seconds."""

    width: int
    height: int
    seconds: float


FILM, QUICK_FILM = Film(1280, 720, 40), Film(640, 360, 12)


def measure(quick: bool) -> Iterator[Measurement]:
    """Time and largest difference for each number of frames, and memory."""
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
            waiting = Waiting(samples)
            pairs = alternate(
                partial(waiting.read, path),
                partial(card.load_video, path, samples),
                rounds,
                ready=waiting.prepare,
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
        yield report_memory(Path(folder), film)


class Waiting:
    """A reader that has seen nothing, with a child that waits for a video."""

    def __init__(self, samples: int, tile: int = card.TILE) -> None:
        self._make = partial(MediaReader, tile, card.MAX_TILES, True, frames=samples)
        self._reader = self._make()

    def prepare(self) -> None:
        """Forget the former video, and wait until the new child has imported what it needs."""
        self._reader = self._make()
        self._reader.prepare()
        quiet = 0
        while quiet < QUIET_POLLS:
            time.sleep(POLL_S)
            quiet = quiet + 1 if children_sleep() else 0

    def read(self, path: Path) -> NDArray[np.float32]:
        """Pixels as the product makes them, float32 [samples, 3, tile, tile]."""
        return normalised(self._reader.tiles(attach(str(path))))


def children_sleep() -> bool:
    """Whether no thread of any child of this process has anything to do, as Linux tells."""
    threads = Path("/proc/self/task").glob("*/children")
    pids = [pid for thread in threads for pid in thread.read_text(encoding="ascii").split()]
    states = [
        stat.read_text(encoding="ascii").rpartition(")")[2].split()[0]
        for pid in pids
        for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return set(states) == {"S"}


def ours(path: Path, samples: int, tile: int = card.TILE) -> NDArray[np.float32]:
    """The same with a child that has still to be started."""
    return Waiting(samples, tile).read(path)


def report_memory(folder: Path, film: Film) -> Measurement:
    """The children's largest memory for the film against one of a quarter of its length."""
    long, short = (
        peak_of(
            make_video(folder / f"{seconds}.mp4", film.width, film.height, seconds), max(SAMPLES)
        )
        for seconds in (film.seconds, film.seconds / 4)
    )
    ratio = share_of([Pair(long, short)])
    return Measurement(
        f"video, memory of the decoder at {film.seconds} s, rival: at a quarter of that",
        "MB",
        spread([long]),
        spread([short]),
        ratio,
        at_most(ratio.median, FLAT),
    )


def peak_of(path: Path, samples: int) -> float:
    """The most memory that a child took for a video, in MB, as a process of its own tells it."""
    script = (  # without torch: a child counts the memory of whoever started it
        "import resource, sys; from backend.media.reader import MediaReader; "
        "from backend.media.recognise import attach; "
        "MediaReader(448, 12, True, frames=int(sys.argv[2])).tiles(attach(sys.argv[1])); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(path), str(samples)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(told.stdout) / 1024


def difference(path: Path, samples: int, tile: int = card.TILE) -> float:
    """The largest difference of any value; raises `ValueError` for unlike shapes."""
    mine, theirs = ours(path, samples, tile), card.load_video(path, samples, tile).numpy()
    if mine.shape != theirs.shape:
        raise ValueError(f"ours are {mine.shape}, the card's {theirs.shape}")
    return float(np.abs(mine - theirs).max())
