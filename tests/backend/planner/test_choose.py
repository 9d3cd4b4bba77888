"""`--model auto` chooses from what a scripted machine has room for."""

from dataclasses import replace

import pytest

from backend.planner.choose import choose_sizes, say_why_dtype
from backend.planner.costs import Demand
from backend.planner.devices import CPU, GB, Device, Machine, make_gpus
from backend.planner.plan import plan_devices
from backend.settings import Settings

AUTO = Settings("auto")
PROCESSOR = Device(CPU, 16 * GB)


def names(machine: Machine, settings: Settings = AUTO) -> list[str]:
    return [shape.name for shape in choose_sizes(settings, machine)]


@pytest.mark.parametrize(
    ("gpus", "largest"),
    [
        ((8,), "2B"),
        ((16,), "2B"),
        ((24,), "8B"),
        ((48,), "14B"),
        ((24, 24, 24, 24), "14B"),
        ((48, 48), "38B"),
        ((80, 80, 80), "78B"),
        ((2,), None),
    ],
)
def test_the_largest_size_that_fits_comes_first(gpus: tuple[float, ...], largest: str) -> None:
    machine = Machine(make_gpus(*gpus), PROCESSOR)
    assert next(iter(names(machine)), None) == largest


def test_every_size_that_is_offered_has_a_plan_that_fits() -> None:
    machine = Machine(make_gpus(24), PROCESSOR)
    chosen = choose_sizes(AUTO, machine)
    assert [shape.name for shape in chosen] == ["8B", "2B", "1B"]
    assert all(plan_devices(Demand(shape), machine).fits for shape in chosen)


def test_a_processor_is_spared_the_larger_sizes_and_a_small_one_all() -> None:
    assert names(Machine(cpu=Device(CPU, 500 * GB))) == ["1B"]
    assert names(Machine(cpu=Device(CPU, 2 * GB))) == []


def test_gpus_that_must_not_be_used_do_not_count() -> None:
    machine = Machine(make_gpus(80), PROCESSOR)
    assert names(machine, replace(AUTO, strategy="cpu")) == ["1B"]


def test_the_choices_of_loading_are_heeded() -> None:
    one, two = Machine(make_gpus(24), PROCESSOR), Machine(make_gpus(24, 24), PROCESSOR)
    assert names(one, replace(AUTO, quantize="nf4"))[0] == "14B"
    assert names(one, replace(AUTO, dtype="float32"))[0] == "2B"
    assert names(one, replace(AUTO, context=32_768))[0] == "8B"
    assert names(one, replace(AUTO, context=100_000)) == []
    assert names(two)[0] == "14B" and names(two, replace(AUTO, strategy="single"))[0] == "8B"


@pytest.mark.parametrize(
    ("wanted", "dtype", "device", "why"),
    [
        ("auto", "float32", "cpu", "auto: float32 is the quickest on a processor"),
        ("auto", "bfloat16", "cpu", "as float32 would fill over half of the memory"),
        ("auto", "bfloat16", "2 × NVIDIA H100", "half the bytes, and this device computes in it"),
        ("auto", "float16", "mps", "half the bytes, and bfloat16 is not computed in here"),
        ("float32", "float32", "cpu", ""),
    ],
)
def test_a_dtype_that_nobody_chose_says_why(wanted: str, dtype: str, device: str, why: str) -> None:
    told = say_why_dtype(wanted, dtype, device)
    assert told.endswith(why) and bool(told) is bool(why) and (dtype in told or not why)


def test_a_size_nobody_confirmed_is_not_chosen() -> None:
    assert "9B" not in names(Machine(make_gpus(80), PROCESSOR))
