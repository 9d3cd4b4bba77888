import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from backend.errors import OutOfMemory
from backend.planner.adapters import NOTHING, Beside
from backend.planner.advice import (
    USUAL_MACHINES,
    find_ways_out,
    refuse_if_too_big,
    smallest_usual_machine,
)
from backend.planner.costs import Demand, Dtype, Precision, Quantization
from backend.planner.devices import CPU, GB, Device, Machine, make_gpus
from backend.planner.plan import Plan, Strategy, plan_devices
from backend.planner.shapes import Shape
from backend.planner.sizes import SIZES, find_size


def size(name: str) -> Shape:
    shape = find_size(name)
    assert shape is not None
    return shape


def plan_on(name: str, *gpus: float, **choices: object) -> Plan:
    demand = Demand(size(name), Precision(**choices))  # type: ignore[arg-type]
    return plan_devices(demand, Machine(make_gpus(*gpus)))


def test_38b_on_two_24_gb_gpus_is_refused_with_numbers_and_three_ways_out() -> None:
    with pytest.raises(OutOfMemory) as refusal:
        refuse_if_too_big(plan_on("38B", 24, 24))
    assert re.fullmatch(
        r"38B in bfloat16 needs 77 GB \+ 4\.3 GB cache for 16,384 tokens \+ [\d.]+ GB to work in; "
        r"here are 2 × 24 GB\. Choose nf4 \(--quantize nf4\), or 14B, "
        r"or an engine on another machine, with 2 × 48 GB\.",
        str(refusal.value),
    )


def test_what_fits_is_not_refused_and_needs_no_way_out() -> None:
    plan = plan_on("38B", 80, 80)
    refuse_if_too_big(plan)
    assert find_ways_out(plan) == ()


def test_a_sum_that_would_fit_names_the_device_that_is_too_full() -> None:
    demand, machine = Demand(size("38B")), Machine(make_gpus(24, 24, 80))
    with pytest.raises(OutOfMemory, match=r"and cuda:0 would hold \d+ GB") as refusal:
        refuse_if_too_big(plan_devices(demand, machine, Strategy.CARD))
    assert "the balanced split" in refusal.value.advice


def test_the_more_exact_precision_is_named_first() -> None:
    (first, *_) = find_ways_out(plan_on("8B", 16))
    assert first.plan.demand.precision.quantize is Quantization.INT8
    (first, *_) = find_ways_out(plan_on("8B", 24, dtype=Dtype.FLOAT32))
    assert first.plan.demand.precision == Precision(Dtype.BFLOAT16)
    (first, *_) = find_ways_out(plan_on("2B", 7.6, dtype=Dtype.FLOAT32, quantize=Quantization.NF4))
    assert first.plan.demand.precision == Precision(Dtype.BFLOAT16, Quantization.NF4)


def test_the_unconfirmed_9b_is_never_recommended() -> None:
    for gpu in range(8, 40):
        ways = find_ways_out(plan_on("14B", gpu, quantize=Quantization.INT8))
        assert not any("9B" in way.text for way in ways)


def test_an_adapter_goes_along_to_a_larger_machine_and_not_to_another_size() -> None:
    heavy = Beside(layer=100_000_000)
    demand = Demand(size("8B"), Precision(quantize=Quantization.NF4), adapter=heavy)
    smaller, elsewhere = find_ways_out(plan_devices(demand, Machine(make_gpus(10))))
    assert smaller.text == "2B" and smaller.plan.demand.adapter == NOTHING
    assert elsewhere.text.startswith("an engine on") and elsewhere.plan.demand.adapter == heavy


def test_offloading_is_named_where_there_is_a_store() -> None:
    demand = Demand(size("14B"), Precision(quantize=Quantization.NF4), context=4096)
    machine = Machine(make_gpus(8), Device(CPU, 64 * GB))
    texts = [way.text for way in find_ways_out(plan_devices(demand, machine))]
    assert any("--offload" in text for text in texts)


def test_a_machine_too_small_for_anything_still_gets_a_true_answer() -> None:
    plan = plan_on("78B", 0.5, dtype=Dtype.FLOAT32)
    ways = find_ways_out(plan)
    assert [way.text for way in ways] == ["an engine on another machine, with 8 × 80 GB"]


@settings(derandomize=True, deadline=None)
@given(
    some.sampled_from(SIZES),
    some.builds(Precision, some.sampled_from(Dtype), some.sampled_from([None, *Quantization])),
    some.integers(1, 32_768),
    some.lists(some.floats(1, 90), min_size=1, max_size=4),
    some.sampled_from([Strategy.BALANCED, Strategy.CARD, Strategy.SINGLE]),
)
def test_every_way_out_fits_and_there_are_three_at_most(
    shape: Shape, precision: Precision, context: int, gpus: list[float], strategy: Strategy
) -> None:
    machine = Machine(make_gpus(*gpus), Device(CPU, 32 * GB))
    plan = plan_devices(Demand(shape, precision, context), machine, strategy)
    ways = find_ways_out(plan)
    assert len(ways) <= 3
    assert len({way.text for way in ways}) == len(ways)
    for way in ways:
        assert way.plan.fits
        assert all(load.used_bytes <= load.device.free_bytes for load in way.plan.loads)
        assert way.plan != plan


@pytest.mark.parametrize("shape", SIZES, ids=lambda shape: shape.name)
def test_no_smaller_usual_machine_would_do(shape: Shape) -> None:
    found = smallest_usual_machine(Demand(shape))
    machines = [make_gpus(*[gb] * count) for count, gb in USUAL_MACHINES]
    for smaller in machines[: machines.index(found)]:
        assert not plan_devices(Demand(shape), Machine(smaller)).fits
