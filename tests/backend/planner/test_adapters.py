"""What an adapter costs is told from its header, and is what a loaded one really takes."""

import gc
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backend.checkpoint.facts import read_facts
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.checkpoint.tokenizer import read_tokens
from backend.errors import BadCheckpoint
from backend.local.adapter import apply_adapter, read_adapter
from backend.local.load import load_network
from backend.local.placement import Placement
from backend.local.unmerged import read_own_adapter
from backend.planner.adapters import NOTHING, Beside, measure_adapter, measure_own
from backend.planner.configs import read_shape
from backend.planner.costs import Demand, Dtype, Precision, Quantization
from backend.planner.devices import CPU, DISK, GB, Device, Machine, make_gpus
from backend.planner.plan import Plan, Strategy, plan_devices
from backend.planner.shapes import LAYERS, PROJECTOR, VISION, Shape
from backend.planner.sizes import SIZES
from tests.backend.local.adapters import RANK, draw_pairs, leave_unmerged, save_adapter
from tests.backend.local.golden import FOLDER
from tests.backend.planner.real_models import LiveBytes

QWEN, INTERNLM = FOLDER / "qknorm-112", FOLDER / "internlm2-112"
PROCESSOR = Machine(cpu=Device(CPU, 64 * GB), disk=Device(DISK, 64 * GB))
EVERYWHERE = pytest.mark.parametrize(
    "source", [BUNDLED_FOLDER, QWEN, INTERNLM], ids=lambda folder: folder.name
)


def make_adapter(source: Path, folder: Path) -> Path:
    return save_adapter(folder, draw_pairs(load_file(source / "model.safetensors")))


def plan(shape: Shape, adapter: Beside, quantize: Quantization | None = None) -> Plan:
    demand = Demand(shape, Precision(Dtype.FLOAT32, quantize), context=512, adapter=adapter)
    return plan_devices(demand, PROCESSOR)


def load(folder: Path, **choices: Any) -> Any:
    placement = Placement(torch.float32, **choices)
    tokens = read_tokens(folder)
    return load_network(folder, read_facts(folder).layout, tokens, placement, lambda share: None)


def taken_by(network: Any, folder: Path) -> int:
    """Bytes that stay once an adapter was applied to the bundled model and a prompt was read."""
    shape = read_shape(BUNDLED_FOLDER)
    pixels = torch.zeros(1, 3, shape.vision.tile, shape.vision.tile)

    def staying(adapters: list[Path]) -> int:
        with LiveBytes(network.parameters()) as live, torch.inference_mode():
            for adapter in adapters:
                apply_adapter(network, read_adapter(adapter, shape))
            network.model.get_image_features(pixel_values=pixels)
            network(input_ids=torch.arange(1, 9)[None])
        gc.collect()
        return live.now

    staying([])  # what a first pass leaves by itself, as repacked matrices, is no adapter's
    before = staying([])
    return staying([folder]) - before


@EVERYWHERE
def test_numbers_are_those_of_the_changes_that_loading_makes(source: Path, tmp_path: Path) -> None:
    folder, shape = make_adapter(source, tmp_path / "lora"), read_shape(source)
    numbers = {
        name: change.down.numel() + change.up.numel()
        for name, change in read_adapter(folder, shape).changes.items()
    }
    first = sum(n for name, n in numbers.items() if name.startswith(f"{LAYERS}.0."))
    seen = sum(n for name, n in numbers.items() if name.startswith((VISION, PROJECTOR)))
    assert measure_adapter(folder) == Beside(first, seen)
    assert first > 0


@pytest.mark.parametrize("source", [QWEN, INTERNLM], ids=lambda folder: folder.name)
def test_an_unmerged_checkpoint_s_own_is_told_by_its_configuration(
    source: Path, tmp_path: Path
) -> None:
    pairs = draw_pairs(load_file(source / "model.safetensors"))
    folder = leave_unmerged(source, tmp_path / "unmerged", pairs)
    shape = read_shape(folder)
    own, given = measure_own(shape), measure_adapter(make_adapter(source, tmp_path / "lora"))
    assert own == given and measure_own(read_shape(source)) == NOTHING
    assert read_own_adapter(folder, shape).changes
    lighter = plan(replace(shape, own_rank=0, own_vision_rank=0), NOTHING, Quantization.INT8)
    heavier = plan(shape, NOTHING, Quantization.INT8)
    assert heavier.weights_bytes - lighter.weights_bytes == 4 * own.layer * shape.text.layers


@pytest.mark.parametrize("quantize", Quantization)
def test_beside_quantised_matrices_it_takes_what_is_planned(
    quantize: Quantization, tmp_path: Path
) -> None:
    folder, shape = make_adapter(BUNDLED_FOLDER, tmp_path / "lora"), read_shape(BUNDLED_FOLDER)
    without, planned = (
        plan(shape, beside, quantize).weights_bytes for beside in (NOTHING, measure_adapter(folder))
    )
    assert planned > without
    taken = taken_by(load(BUNDLED_FOLDER, quantize=quantize), folder)
    assert math.isclose(taken, planned - without, rel_tol=0.001)


def test_beside_what_lies_in_a_store_it_is_planned_where_that_computes() -> None:
    machine = Machine(make_gpus(12), Device(CPU, 64 * GB))
    shape, beside = SIZES[2], Beside(layer=1000, vision=70)
    bare, dressed = (
        plan_devices(Demand(shape, adapter=adapter), machine, Strategy.OFFLOAD)
        for adapter in (NOTHING, beside)
    )
    assert bare.device_map == dressed.device_map
    guests = [name for name, place in bare.device_map.items() if place == CPU]
    layers = sum(name.startswith(LAYERS) for name in guests)
    assert layers and (VISION in guests) == (len(guests) > layers)
    more = [
        one.weights_bytes - other.weights_bytes
        for one, other in zip(dressed.loads, bare.loads, strict=True)
    ]
    assert more == [2 * (1000 * layers + 70 * (VISION in guests)), 0]


def test_a_merged_one_costs_nothing(tmp_path: Path) -> None:
    folder, shape = make_adapter(BUNDLED_FOLDER, tmp_path / "lora"), read_shape(BUNDLED_FOLDER)
    assert plan(shape, measure_adapter(folder)).loads == plan(shape, NOTHING).loads
    assert taken_by(load(BUNDLED_FOLDER), folder) == 0


def test_changes_beside_matrices_raise_the_peak_of_a_pass_by_their_own_bytes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, shape = make_adapter(BUNDLED_FOLDER, tmp_path / "lora"), read_shape(BUNDLED_FOLDER)
    network, ids = load(BUNDLED_FOLDER), torch.arange(1024)[None]

    def peak() -> int:
        with LiveBytes(network.parameters()) as live, torch.inference_mode():
            network(input_ids=ids, logits_to_keep=1, use_cache=False)
        return live.peak

    peak()
    before = peak()
    monkeypatch.setattr(torch.Tensor, "is_floating_point", lambda tensor: False)  # as quantised
    apply_adapter(network, read_adapter(folder, shape))
    monkeypatch.undo()
    with torch.inference_mode():
        network(input_ids=ids[:, :8])
    low_rank = 4 * RANK * ids.shape[1]
    assert before <= peak() <= before + 4 * 5 * measure_adapter(folder).layer + low_rank


def test_weights_are_not_read_to_tell(tmp_path: Path) -> None:
    folder = make_adapter(BUNDLED_FOLDER, tmp_path / "lora")
    told, file = measure_adapter(folder), folder / "adapter_model.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    file.write_bytes(content[:header])
    assert measure_adapter(folder) == told
    file.write_bytes(content[: header // 2])
    with pytest.raises(BadCheckpoint, match=r"adapter_model\.safetensors cannot be read. Copy"):
        measure_adapter(folder)


def test_another_kind_is_refused_as_it_is_on_loading(tmp_path: Path) -> None:
    folder = make_adapter(BUNDLED_FOLDER, tmp_path / "lora")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LOHA"}))
    with pytest.raises(BadCheckpoint, match="of the kind LOHA, not LoRA"):
        measure_adapter(folder)
