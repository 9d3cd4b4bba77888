"""Quantised loading, for real on the processor: what is stored how, and that answers still come."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt

from backend.checkpoint.facts import read_facts
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.checkpoint.tokenizer import read_tokens
from backend.errors import BadSetting
from backend.local import quantization as quantization_module
from backend.local.choices import decide
from backend.local.devices import MPS
from backend.local.engine import LocalEngine
from backend.local.load import load_network
from backend.local.placement import Placement
from backend.local.quantization import configure, quantization_of
from backend.planner.configs import read_shape
from backend.planner.costs import Demand, Dtype, Precision, Quantization, reckon
from backend.planner.devices import CPU, GB, Device, Machine, make_gpus
from backend.planner.shapes import LAYERS
from backend.planner.sizes import SIZES
from backend.settings import Settings
from tests.backend.local.golden import FOLDER
from tests.backend.local.stand_ins import ask, instant_composer

LINEAR = {Quantization.INT8: Linear8bitLt, Quantization.NF4: Linear4bit}
PROCESSOR = Machine(cpu=Device(CPU, 64 * GB))
INT8, NF4 = Quantization


def load(folder: Path, quantize: Quantization | None) -> Any:
    placement = Placement(torch.float32, quantize=quantize)
    layout, tokens = read_facts(folder).layout, read_tokens(folder)
    return load_network(folder, layout, tokens, placement, lambda share: None)


def check_types(network: Any) -> int:
    """How many matrices of decoder layers are quantised: all, and none elsewhere."""
    quantize = quantization_of(network)
    assert quantize is not None
    linears = {n: m for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)}
    quantised = {name for name, module in linears.items() if type(module) is LINEAR[quantize]}
    plain = {name for name, module in linears.items() if type(module) is torch.nn.Linear}
    assert quantised | plain == set(linears)
    assert quantised == {name for name in linears if name.startswith(f"{LAYERS}.")}
    assert {"lm_head", "model.multi_modal_projector.linear_1"} <= plain
    assert any(name.startswith("model.vision_tower.") for name in plain)
    assert type(network.get_input_embeddings()) is torch.nn.Embedding
    return len(quantised)


@pytest.fixture(scope="module")
def plain() -> Any:
    return load(BUNDLED_FOLDER, None)


@pytest.fixture(scope="module", params=Quantization)
def quantised(request: pytest.FixtureRequest) -> Any:
    return load(BUNDLED_FOLDER, request.param)


def test_matrices_of_decoder_layers_are_quantised_and_no_others(plain: Any, quantised: Any) -> None:
    assert check_types(quantised) == 5 * 7
    assert quantization_of(plain) is None


def test_logits_stay_close_but_are_not_the_same(plain: Any, quantised: Any) -> None:
    least = {INT8: 0.9999, NF4: 0.99}[quantization_of(quantised)]
    assert least < cosine(plain, quantised) < 1 - 1e-7


@pytest.mark.parametrize("quantize", Quantization)
def test_the_weights_take_the_bytes_that_were_planned(quantize: Quantization) -> None:
    precision = Precision(Dtype.FLOAT32, quantize)
    planned = reckon(Demand(read_shape(BUNDLED_FOLDER), precision, context=1)).weights
    # A fresh one: the first pass repacks them for the processor.
    layer = load(BUNDLED_FOLDER, quantize).model.language_model.layers[0]
    taken = sum(map(bytes_of, layer.parameters()))
    assert math.isclose(taken, planned[f"{LAYERS}.0"], rel_tol=0.001)


@pytest.mark.parametrize("name", ["qknorm-112", "internlm2-112"])
def test_fused_matrices_are_split_before_they_are_quantised(name: str) -> None:
    plain, quantised = load(FOLDER / name, None), load(FOLDER / name, INT8)
    assert check_types(quantised) == 3 * 7
    assert cosine(plain, quantised) > 0.99


@pytest.mark.parametrize("quantize", Quantization)
def test_the_bundled_checkpoint_still_answers_and_says_how(
    quantize: Quantization, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(quantize=str(quantize), dtype="bfloat16")
    for engine in started(settings):
        with caplog.at_level(logging.WARNING):
            text = "".join(engine.stream(ask("Hello, who are you?", max_new_tokens=40)))
        assert "InternVL" in text
        assert engine.status().precision == f"{quantize} + bfloat16"
    # Else a line would come for every matrix and token.
    assert "MatMul" not in caplog.text


def test_what_lies_in_a_store_is_spared_and_nothing_else() -> None:
    spread = Placement(torch.bfloat16, quantize=NF4, device_map={"a": 0, "b": "cpu"})
    for placement, spared in ((spread, True), (Placement(torch.bfloat16, quantize=NF4), False)):
        config = configure(placement)
        assert config is not None
        assert config.llm_int8_enable_fp32_cpu_offload is spared
        assert config.bnb_4bit_compute_dtype == torch.bfloat16
        assert not config.bnb_4bit_use_double_quant


def test_a_missing_bitsandbytes_is_told_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantization_module, "is_bitsandbytes_available", lambda: False)
    for engine in started(Settings(quantize="nf4")):
        with pytest.raises(BadSetting) as refusal:
            "".join(engine.stream(ask("Hello")))
    assert str(refusal.value) == (
        "--quantize nf4 needs bitsandbytes, which is not installed. "
        "Install it (pip install bitsandbytes==0.50.2), or leave --quantize out."
    )


def test_other_devices_than_bitsandbytes_knows_are_refused() -> None:
    apple = Machine((Device(MPS, 24 * GB),), PROCESSOR.cpu)
    with pytest.raises(BadSetting, match=r"not on mps\. .*add --strategy cpu"):
        decide(Settings(quantize="nf4"), SIZES[0], apple)
    assert decide(Settings(quantize="nf4", strategy="cpu"), SIZES[0], apple).on_processor


def test_the_processor_either_quantises_or_offloads() -> None:
    settings = Settings(quantize="int8", offload=True, dtype="bfloat16", attention="sdpa")
    with pytest.raises(BadSetting, match="either quantised or offloaded"):
        decide(settings, SIZES[0], PROCESSOR)
    with_gpu = Machine(make_gpus(24), PROCESSOR.cpu)
    assert decide(settings, SIZES[0], with_gpu).placement.quantize is INT8


def test_widths_that_are_no_whole_blocks_are_refused_for_nf4_on_the_processor(
    tmp_path: Path,
) -> None:
    shape = read_shape(FOLDER / "internlm2-112")
    with pytest.raises(BadSetting, match=r"multiple of 64, and .* of 160\. Use --quantize int8"):
        decide(Settings(quantize="nf4"), shape, PROCESSOR)
    assert decide(Settings(quantize="int8"), shape, PROCESSOR).placement.quantize is INT8
    on_gpu = Machine(make_gpus(24), PROCESSOR.cpu)
    settings = Settings(quantize="nf4", dtype="bfloat16", attention="sdpa")
    assert decide(settings, shape, on_gpu).placement.quantize is NF4


def test_every_size_has_widths_of_whole_blocks() -> None:
    for shape in SIZES:
        machine = Machine(cpu=Device(CPU, 1000 * GB))
        assert decide(Settings(quantize="nf4"), shape, machine).placement.quantize is NF4


def started(settings: Settings) -> Iterator[LocalEngine]:
    engine = LocalEngine(settings, open_=lambda _: instant_composer())
    engine.start()
    yield engine
    engine.close()


def cosine(one: Any, other: Any) -> float:
    """Of the logits of both, the mean over a prompt."""
    ids = torch.arange(1, 60)[None]
    with torch.inference_mode():
        logits = [network(input_ids=ids).logits.double() for network in (one, other)]
    return torch.nn.functional.cosine_similarity(*logits, dim=-1).mean().item()


def bytes_of(parameter: torch.nn.Parameter) -> int:
    """With what bitsandbytes keeps beside a matrix."""
    size = parameter.numel() * parameter.element_size()
    if (scales := getattr(parameter, "SCB", None)) is not None:
        size += scales.numel() * scales.element_size()
    if (state := getattr(parameter, "quant_state", None)) is not None:
        size += sum(t.numel() * t.element_size() for t in (state.absmax, state.code))
    return size
