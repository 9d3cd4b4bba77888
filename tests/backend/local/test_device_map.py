import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import InternVLForConditionalGeneration

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.errors import BadSetting
from backend.local.device_map import card_layers, make_device_map
from backend.planner.configs import read_shape
from backend.planner.costs import Demand
from backend.planner.devices import CPU, DISK, GB, Device, Machine, make_gpus
from backend.planner.plan import Strategy, plan_devices
from backend.planner.shapes import LAYERS, Shape
from backend.planner.sizes import SIZES
from benchmarks.random_shards import config_of
from tests.backend.planner.real_models import build

GOLDEN = Path(__file__).parents[2] / "golden" / "device_map_card.json"
CASES = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['decoder_layers']} layers, {case['gpus']} GPUs"
)
def test_layers_are_split_as_the_card_splits_them(case: dict[str, list[int]]) -> None:
    assert card_layers(case["decoder_layers"], case["gpus"]) == case["layer_gpu"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['decoder_layers']}, {case['gpus']}"
)
def test_the_cards_strategy_follows_its_split_and_names_no_other_layer(case: dict) -> None:
    for shape in (one for one in SIZES if one.text.layers == case["decoder_layers"]):
        machine = Machine(make_gpus(*[80] * case["gpus"]))
        device_map = make_device_map(plan_devices(Demand(shape), machine, Strategy.CARD))
        layers = {name: gpu for name, gpu in device_map.items() if name.startswith(LAYERS)}
        assert layers == {f"{LAYERS}.{index}": gpu for index, gpu in enumerate(case["layer_gpu"])}
        others = set(device_map) - set(layers)
        assert {device_map[name] for name in others} == {case["vision_gpu"]}


def test_all_golden_splits_belong_to_a_size() -> None:
    assert len(CASES) == 40
    assert {case["decoder_layers"] for case in CASES} == {one.text.layers for one in SIZES}


@pytest.mark.parametrize(("layers", "gpus"), [(24, 0), (0, 2), (24, -1)])
def test_a_split_of_nothing_or_over_nothing_is_refused(layers: int, gpus: int) -> None:
    with pytest.raises(BadSetting, match=f"cannot put {layers} layers on {gpus} GPUs. It needs"):
        card_layers(layers, gpus)


def test_every_layer_has_a_gpu_however_few_layers_there_are() -> None:
    for layers in range(1, 20):
        for gpus in range(1, 9):
            owners = card_layers(layers, gpus)
            assert len(owners) == layers
            assert owners[-1] == 0
            assert set(owners) <= set(range(gpus))


def test_the_loader_gets_gpus_by_number_and_stores_by_name() -> None:
    machine = Machine(make_gpus(24), Device(CPU, 64 * GB))
    plan = plan_devices(Demand(SIZES[4]), machine, Strategy.OFFLOAD)
    assert set(make_device_map(plan).values()) == {0, "cpu"}


def test_the_planner_is_imported_without_torch() -> None:
    code = "import sys, backend.local.device_map; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def test_a_checkpoint_partly_on_the_disk_answers_as_one_in_memory(tmp_path: Path) -> None:
    demand = Demand(read_shape(BUNDLED_FOLDER), context=512)
    needed = plan_devices(demand, Machine(cpu=Device(CPU, GB))).used_bytes
    scarce = Machine(cpu=Device(CPU, needed - 1), disk=Device(DISK, GB))
    plan = plan_devices(demand, scarce, may_offload=True)
    device_map = make_device_map(plan)
    assert plan.fits
    assert set(device_map.values()) == {"cpu", "disk"}
    ids = torch.arange(1, 9)[None]
    logits = []
    for placed in (None, device_map):
        model = InternVLForConditionalGeneration.from_pretrained(
            BUNDLED_FOLDER, dtype=torch.float32, device_map=placed, offload_folder=tmp_path
        )
        with torch.inference_mode():
            logits.append(model(input_ids=ids).logits)
    assert model.hf_device_map == device_map
    assert torch.equal(*logits)


@pytest.mark.parametrize("shape", SIZES, ids=lambda shape: shape.name)
def test_every_parameter_and_buffer_is_placed_by_exactly_one_entry(shape: Shape) -> None:
    device_map = make_device_map(plan_devices(Demand(shape), Machine(make_gpus(80, 80, 80))))
    model = build(config_of(shape), torch.bfloat16, "meta")
    for name in (*dict(model.named_parameters()), *dict(model.named_buffers())):
        assert sum(name.startswith(f"{module}.") for module in device_map) == 1, name
