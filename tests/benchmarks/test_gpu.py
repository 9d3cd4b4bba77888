"""What measures a GPU, run with a small shape on the processor; and what it says without a GPU."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
import torch

from backend.planner.costs import Dtype, Precision, Quantization
from backend.planner.shapes import Shape, TextShape, VisionShape
from backend.planner.sizes import find_size
from benchmarks import gpu
from benchmarks.__main__ import main
from benchmarks.gpu_lab import Case, decode_limit, load_case
from benchmarks.measurement import Measurement
from benchmarks.random_shards import write_checkpoint
from tests.backend.planner.real_models import LiveBytes

SMALL = Shape(
    "small",
    VisionShape(layers=2, hidden=128, heads=4, ffn=512, qkv_bias=True),
    TextShape(
        layers=3, hidden=192, heads=6, kv_heads=2, head_dim=32, ffn=768, vocabulary=1600,
        qkv_bias=True,
    ),
    context=2048,
)  # fmt: skip
CASE = Case(SMALL, Precision(Dtype.BFLOAT16), prompt=1800, new=4, tiles=1)


class CountingMeter:
    """The face of `Meter` where no allocator counts."""

    device = "cpu"

    def __init__(self) -> None:
        self.peak = 0
        self._weights: list[torch.Tensor] = []

    def __enter__(self) -> Self:
        self._live = LiveBytes(self._weights) if self._weights else None
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(self, *reason: Any) -> None:
        if self._live:
            self._live.__exit__(*reason)
            self.peak = self._live.peak

    def bytes_of(self, network: Any) -> int:
        self._weights = [*network.parameters(), *network.buffers()]
        return int(network.get_memory_footprint())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("random"), SMALL)


def test_random_weights_are_all_that_a_shape_has(folder: Path) -> None:
    network = load_case(folder, CASE, "cpu")
    assert network.num_parameters() == SMALL.parameters
    assert len(list(folder.glob("*.safetensors"))) == 3 + 2 + SMALL.text.layers
    assert network.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(network.model.language_model.norm.weight, torch.ones(192).bfloat16())


@pytest.fixture(scope="module", params=[None, *Quantization])
def measured(request: pytest.FixtureRequest, folder: Path) -> Iterator[list[Measurement]]:
    case = replace(CASE, precision=Precision(Dtype.BFLOAT16, request.param))
    yield list(gpu.measure_case(folder, case, CountingMeter(), bandwidth=1e9))  # type: ignore[arg-type]


def test_a_case_gives_bytes_and_speeds(measured: list[Measurement]) -> None:
    weights, work, alone, together = measured
    assert weights.goal is not None and weights.goal.holds
    assert work.ours.median > weights.ours.median > 0
    assert alone.rival is not None and alone.ours.median > 0
    assert together.rival == alone.ours and together.ours.median > 0
    assert "16 people" in together.name


def test_the_planned_bytes_are_those_of_a_pass_on_the_processor(folder: Path) -> None:
    _, work, *_ = gpu.measure_case(folder, CASE, CountingMeter(), None)  # type: ignore[arg-type]
    assert work.goal is not None and work.goal.holds, work


def test_a_plan_that_is_wrong_is_shown_as_missed() -> None:
    for real, holds in ((100, True), (97, False), (104, False)):
        goal = gpu._compare("it", 100, real).goal
        assert goal is not None and goal.holds is holds


def test_the_limit_is_the_arithmetic_of_bytes_and_bandwidth() -> None:
    """8B in bfloat16 at 4,096 tokens: 142 tokens a second on an A100, 233 on an H100."""
    shape = find_size("8B")
    assert shape is not None
    case = Case(shape, Precision(Dtype.BFLOAT16), prompt=4000, new=96)
    assert decode_limit(case, gpu.BANDWIDTHS["A100-SXM4-80GB"]) == pytest.approx(142, abs=1)
    assert decode_limit(case, gpu.BANDWIDTHS["H100 80GB HBM3"]) == pytest.approx(233, abs=1)


def test_every_precision_and_the_attention_that_is_there_are_measured() -> None:
    names = [case.name for case in gpu.cases_of(SMALL, quick=True)]
    assert names == ["small, bfloat16, sdpa", "small, int8, sdpa", "small, nf4, sdpa"]


def test_without_a_gpu_it_says_so_and_gives_no_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu", "--json", str(tmp_path / "gpu.json")]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("gpu was not run here: torch ")
    assert "sees no CUDA device" in said.err
    assert not (tmp_path / "gpu.json").exists()
