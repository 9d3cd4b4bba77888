"""A size of the family on a GPU: bytes against the planner's, speed against the memory's limit.

    python -m benchmarks gpu            the 8B shape in bfloat16, int8 and nf4, with random weights
    python -m benchmarks gpu --quick    the 1B shape

What such a model says does not matter; what it weighs and how fast it answers does not depend on
the numbers in its matrices. It is written to the disk, drawn on the device, and loaded by the
app's own loader; it is answered by the app's own engine. Needs a CUDA device; the tests run the
same code with a small shape on the processor.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from backend.local.attention import FLASHES
from backend.planner.costs import Dtype, Precision, Quantization
from backend.planner.shapes import Shape
from backend.planner.sizes import find_size
from benchmarks.gpu_lab import Case, Meter, count_bytes, decode_limit, load_case, time_answers
from benchmarks.measurement import Goal, Measurement, Spread, spread
from benchmarks.random_shards import write_checkpoint
from benchmarks.suite import NotHere

EXACT_ENOUGH = 0.03
PEOPLE = 16
# Bytes a second that the memory delivers, as NVIDIA tells them, by a part of the device's name.
BANDWIDTHS = {"H200": 4.8e12, "H100 80GB HBM3": 3.35e12, "A100-SXM4-80GB": 2.039e12}


def measure(quick: bool) -> Iterator[Measurement]:
    """Each precision with each attention; raises `NotHere` without a CUDA device."""
    if not torch.cuda.is_available():
        raise NotHere(
            f"torch {torch.__version__} sees no CUDA device. Run it on a machine with an NVIDIA "
            "GPU of 40 GB or more, after pip install -r requirements-gpu.txt."
        )
    shape = find_size("1B" if quick else "8B")
    assert shape is not None
    name = torch.cuda.get_device_name()
    bandwidth = next((speed for part, speed in BANDWIDTHS.items() if part in name), None)
    with TemporaryDirectory(prefix="internvl3-gpu-") as folder:
        write_checkpoint(Path(folder), shape, "cuda:0")
        for case in cases_of(shape, quick):
            yield from measure_case(Path(folder), case, Meter("cuda:0"), bandwidth)


def cases_of(shape: Shape, quick: bool) -> Iterator[Case]:
    """Every precision; flash attention where it is installed, and sdpa."""
    attentions = ["sdpa", *(name for name, flash in FLASHES.items() if flash.is_installed())]
    for quantize in (None, *Quantization):
        for attention in attentions:
            precision = Precision(Dtype.BFLOAT16, quantize)
            yield Case(shape, precision, attention, prompt=4096, new=64 if quick else 256)


def measure_case(
    folder: Path, case: Case, meter: Meter, bandwidth: float | None
) -> Iterator[Measurement]:
    """Bytes, then the speed of one person and of many."""
    with meter:
        network = load_case(folder, case, meter.device)
        loaded = meter.bytes_of(network)
    counted = count_bytes(network, folder, case, meter)
    yield _compare(f"{case.name}: weights", case.planned_weights, loaded)
    yield _compare(f"{case.name}: with all at work", case.planned_bytes, loaded + counted)
    del network
    times = time_answers(folder, case, meter.device, PEOPLE)
    limit = bandwidth and decode_limit(case, bandwidth)
    yield _rate(f"{case.name}: one person, rival: the memory's limit", times.alone, limit)
    yield _rate(f"{case.name}: {PEOPLE} people, rival: one person", times.together, times.alone)


def _compare(name: str, planned: int, real: int) -> Measurement:
    """What was planned beside what was taken, GB."""
    share = planned / real
    return Measurement(
        f"{name}, planned; rival: really taken",
        "GB",
        _once(planned / 1e9),
        _once(real / 1e9),
        _once(share),
        Goal(f"within {EXACT_ENOUGH:.0%}", abs(share - 1) <= EXACT_ENOUGH),
    )


def _rate(name: str, ours: float, rival: float | None) -> Measurement:
    ratio = _once(ours / rival) if rival else None
    return Measurement(name, "tokens/s", _once(ours), _once(rival) if rival else None, ratio)


def _once(figure: float) -> Spread:
    return spread([figure])
