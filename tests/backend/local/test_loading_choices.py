"""What settings come to on a machine: dtype, attention, places, and refusals before loading."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.engine import State
from backend.errors import BadSetting, OutOfMemory
from backend.local import attention as attention_module
from backend.local import choices as choices_module
from backend.local import load as load_module
from backend.local.choices import Choices, decide, refuse_question
from backend.local.devices import BOUNDLESS, MPS
from backend.local.engine import LocalEngine
from backend.local.preparation import prepare
from backend.planner.configs import read_shape
from backend.planner.costs import Dtype
from backend.planner.devices import CPU, DISK, GB, Device, Machine, make_gpus
from backend.planner.plan import Strategy
from backend.planner.shapes import VISION, Shape
from backend.planner.sizes import find_size
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.local.stand_ins import ask, instant_composer
from tests.backend.planner.loras import write_lora

PROCESSOR = Machine(cpu=Device(CPU, 64 * GB), disk=Device(DISK, 500 * GB))
TWO_GPUS = Machine(make_gpus(24, 24), PROCESSOR.cpu, PROCESSOR.disk)
APPLES = Machine((Device(MPS, 24 * GB),), PROCESSOR.cpu, PROCESSOR.disk)
HELLO = "Hello, who are you?"


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> "Gpus":
    return Gpus(monkeypatch)


class Gpus:
    """What torch says of GPUs that are not there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch.setattr
        self._set_flash = monkeypatch.setitem
        self.are(generation=8)

    def are(self, generation: int) -> None:
        bf16 = generation >= 8
        self._patch(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
        self._patch(torch.cuda, "get_device_capability", lambda name: (generation, 0))
        self._patch(torch.cuda, "get_device_name", lambda name: f"GPU of {generation}")

    def have(self, *flashes: str) -> None:
        """Install some flash attentions and no others."""
        for name, flash in attention_module.FLASHES.items():
            there = name in flashes
            replaced = replace(flash, is_installed=lambda there=there: there)
            self._set_flash(attention_module.FLASHES, name, replaced)


def size(name: str) -> Shape:
    shape = find_size(name)
    assert shape is not None
    return shape


def decide_for(machine: Machine, name: str = "1B", **choices: Any) -> Choices:
    return decide(Settings(**choices), size(name), machine)


def dtype_on(machine: Machine, name: str = "1B", **choices: Any) -> torch.dtype:
    return decide_for(machine, name, **choices).placement.dtype


def test_on_a_gpu_auto_takes_bfloat16_where_it_computes_in_it(gpus: Gpus) -> None:
    assert dtype_on(TWO_GPUS) == torch.bfloat16
    gpus.are(generation=7)
    assert dtype_on(TWO_GPUS) == torch.float16
    assert dtype_on(APPLES) == torch.float16


def test_on_the_processor_auto_takes_float32_unless_that_fills_half_of_the_memory() -> None:
    with_memory = [Machine(cpu=Device(CPU, gb * GB)) for gb in (8, 7)]
    assert [dtype_on(machine) for machine in with_memory] == [torch.float32, torch.bfloat16]
    assert dtype_on(TWO_GPUS, strategy="cpu") == torch.float32
    unknown = Machine(cpu=Device(CPU, BOUNDLESS))
    assert dtype_on(unknown) == torch.bfloat16


def test_a_checkpoint_of_float32_stays_so_on_the_processor() -> None:
    saved = replace(size("1B"), saved_as="float32")
    for gb in (8, 7):
        machine = Machine(cpu=Device(CPU, gb * GB))
        assert decide(Settings(), saved, machine).placement.dtype == torch.float32


@pytest.mark.parametrize("dtype", [str(dtype) for dtype in Dtype])
def test_a_dtype_that_is_chosen_is_taken(dtype: str) -> None:
    for machine in (PROCESSOR, TWO_GPUS, APPLES):
        assert dtype_on(machine, dtype=dtype) == getattr(torch, dtype)


def test_auto_takes_the_best_attention_that_works(gpus: Gpus) -> None:
    gpus.have()
    assert decide_for(TWO_GPUS).attention == "sdpa"
    gpus.have("flash_attention_2", "flash_attention_3")
    assert decide_for(TWO_GPUS).attention == "flash_attention_2"
    gpus.are(generation=9)
    assert decide_for(TWO_GPUS).attention == "flash_attention_3"
    gpus.have("flash_attention_2")
    assert decide_for(TWO_GPUS).attention == "flash_attention_2"
    assert decide_for(TWO_GPUS, dtype="float32").attention == "sdpa"
    assert decide_for(TWO_GPUS, strategy="cpu").attention == "sdpa"
    assert decide_for(APPLES).attention == "sdpa"
    gpus.are(generation=7)
    assert decide_for(TWO_GPUS).attention == "sdpa"


@pytest.mark.parametrize("wanted", ["sdpa", "eager"])
def test_an_attention_that_always_works_is_taken(wanted: str, gpus: Gpus) -> None:
    gpus.have("flash_attention_2")
    for machine in (PROCESSOR, TWO_GPUS):
        assert decide_for(machine, attention=wanted).placement.attention == wanted


@pytest.mark.parametrize(
    ("machine", "choices", "generation", "installed", "reason"),
    [
        (PROCESSOR, {}, 8, True, "it needs an NVIDIA GPU, and the model goes to cpu"),
        (APPLES, {}, 8, True, "it needs an NVIDIA GPU, and the model goes to mps"),
        (TWO_GPUS, {"dtype": "float32"}, 8, True, "in bfloat16 and float16, not in float32"),
        (TWO_GPUS, {}, 8, False, r"is not installed \(pip install flash-attn"),
        (TWO_GPUS, {}, 7, True, "needs GPUs of the generation .*, and cuda:0 is GPU of 7"),
    ],
)
@pytest.mark.parametrize("wanted", ["flash_attention_2", "flash_attention_3"])
def test_a_flash_attention_that_cannot_work_is_refused_with_the_reason(
    wanted: str,
    machine: Machine,
    choices: dict[str, str],
    generation: int,
    installed: bool,
    reason: str,
    gpus: Gpus,
) -> None:
    gpus.are(generation)
    gpus.have(*[wanted] * installed)
    with pytest.raises(BadSetting, match=f"--attention {wanted} cannot work here: .*{reason}"):
        decide_for(machine, attention=wanted, **choices)


def test_one_device_needs_no_map_and_several_get_the_planners() -> None:
    assert decide_for(PROCESSOR).placement.device_map == {"": "cpu"}
    assert decide_for(TWO_GPUS, strategy="single").placement.device_map == {"": 0}
    assert decide_for(APPLES).placement.device_map == {"": "mps"}
    balanced = decide_for(TWO_GPUS, "8B")
    assert balanced.plan.strategy is Strategy.BALANCED
    assert set(balanced.placement.device_map.values()) == {0, 1}
    card = decide_for(TWO_GPUS, "8B", strategy="card").placement.device_map
    assert card != balanced.placement.device_map and card[VISION] == card["lm_head"] == 0


def test_offloading_has_to_be_allowed() -> None:
    small = Machine(make_gpus(3), PROCESSOR.cpu)
    with pytest.raises(OutOfMemory, match="1B in bfloat16 needs 1.9 GB"):
        decide_for(small, "1B", context=32_768)
    offloaded = decide_for(small, "1B", offload=True, context=32_768)
    assert set(offloaded.placement.device_map.values()) == {0, "cpu"}


def test_the_memory_of_an_apple_is_not_planned_twice() -> None:
    with pytest.raises(OutOfMemory):
        decide_for(Machine((Device(MPS, GB),), PROCESSOR.cpu, PROCESSOR.disk), offload=True)


def test_offloading_from_the_processor_spares_the_gpus() -> None:
    scarce = Machine(TWO_GPUS.gpus, Device(CPU, 3 * GB), PROCESSOR.disk)
    plan = decide_for(scarce, strategy="cpu", dtype="float32", context=1024, offload=True).plan
    assert set(plan.device_map.values()) == {"cpu", "disk"}


def test_what_does_not_fit_is_refused_with_the_numbers_and_ways_out() -> None:
    with pytest.raises(OutOfMemory) as refusal:
        decide_for(TWO_GPUS, "38B")
    assert str(refusal.value).startswith(
        "38B in bfloat16 needs 77 GB + 4.3 GB cache for 16,384 tokens + "
    )
    assert "here are 2 × 24 GB. Choose nf4 (--quantize nf4), or 14B, or " in str(refusal.value)


def test_an_adapter_that_stays_beside_quantised_matrices_is_part_of_the_refusal(
    tmp_path: Path,
) -> None:
    lora = str(write_lora(tmp_path / "lora", layers=24, rank=512, rows=1, columns=100_000))
    small = Machine(make_gpus(4))
    assert decide_for(small, quantize="nf4").plan.fits
    with pytest.raises(OutOfMemory, match=r"1B in nf4 needs 3\.8 GB \+ .*; here is 1 × 4 GB"):
        decide_for(small, quantize="nf4", adapter=lora)
    assert decide_for(small, adapter=lora).plan.fits  # it will be merged


def test_a_shorter_context_is_planned_as_told() -> None:
    assert decide_for(PROCESSOR).plan.demand.context == 16_384
    assert decide_for(PROCESSOR, context=4096).plan.demand.context == 4096
    with pytest.raises(BadSetting, match="context of 1B is 40,000"):
        decide_for(PROCESSOR, context=40_000)


def test_the_cards_split_needs_gpus() -> None:
    with pytest.raises(BadSetting, match="card's split is made for GPUs"):
        decide_for(PROCESSOR, strategy="card")


def test_nothing_is_read_of_weights_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(BUNDLED_FOLDER, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"no weights")
    tiny = Machine(cpu=Device(CPU, GB // 2))
    monkeypatch.setattr(load_module, "find_machine", lambda: tiny)
    engine = LocalEngine(Settings(model=str(folder)), open_=lambda _: instant_composer(folder))
    engine.start()
    with pytest.raises(OutOfMemory, match=r"needs 22 MB \+ .*; here is 0\.5 GB on the CPU"):
        "".join(engine.stream(ask(HELLO)))
    engine.close()
    assert engine.status().state is State.FAILED
    assert "0.5 GB on the CPU" in engine.status().reason


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    # Alone: what a batch may need is set aside when the model is loaded.
    settings = Settings(context=1024, batching="off")
    engine = LocalEngine(settings, open_=lambda _: instant_composer())
    engine.start()
    yield engine
    engine.close()


def test_a_question_without_room_is_refused_and_the_next_one_is_answered(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    "".join(engine.stream(ask("Hello", max_new_tokens=1)))  # ends when the model is loaded
    with monkeypatch.context() as scarce:
        scarce.setattr(choices_module, "free_on", lambda name: 10**6)
        with pytest.raises(OutOfMemory, match=r"beside the model, and cpu has 1 MB free"):
            "".join(engine.stream(ask(HELLO)))
    assert "InternVL" in "".join(engine.stream(ask(HELLO, max_new_tokens=40)))


def test_an_engine_that_is_ready_says_why_it_took_its_dtype(engine: LocalEngine) -> None:
    "".join(engine.stream(ask("Hello", max_new_tokens=1)))  # ends when the model is loaded
    assert engine.status().precision == "float32"
    assert engine.status().why == "auto: float32 is the quickest on a processor"


def test_a_question_is_weighed_with_its_answer_and_its_tiles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = decide(Settings(), read_shape(BUNDLED_FOLDER), PROCESSOR).plan
    weighed: list[dict[str, Any]] = []
    monkeypatch.setattr(
        choices_module,
        "refuse_turn_if_too_big",
        lambda plan, free, **question: weighed.append(free | question),
    )
    monkeypatch.setattr(choices_module, "free_on", lambda name: 7)
    asked = ask("What is this?", images=3, max_new_tokens=9)
    prepared = prepare(instant_composer(), AnswerStream(asked))
    refuse_question(plan, prepared)
    total = len(prepared.prompt.ids)
    assert weighed == [{"cpu": 7, "prompt_tokens": total, "new_tokens": 9, "tiles": 3}]
