from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from backend.errors import BadSetting
from backend.planner.costs import Demand, Dtype, Precision, Quantization, reckon
from backend.planner.devices import CPU, DISK, GB, Device, Machine, make_gpus
from backend.planner.loads import ENDS, Part, load_worker
from backend.planner.plan import Plan, Strategy, plan_devices
from backend.planner.shapes import LAYERS, PROJECTOR, VISION, Shape, TextShape, VisionShape
from backend.planner.sizes import SIZES, find_size

steady = settings(derandomize=True, deadline=None)
SPREADING = (Strategy.BALANCED, Strategy.CARD, Strategy.SINGLE)

shapes = some.builds(
    Shape,
    name=some.just("made up"),
    vision=some.builds(
        VisionShape,
        layers=some.integers(1, 4),
        hidden=some.sampled_from([512, 3200]),
        heads=some.just(8),
        ffn=some.sampled_from([2048, 12_800]),
        qk_norm=some.booleans(),
    ),
    text=some.builds(
        TextShape,
        layers=some.integers(1, 12),
        hidden=some.sampled_from([896, 5120]),
        heads=some.just(8),
        kv_heads=some.sampled_from([1, 8]),
        head_dim=some.just(64),
        ffn=some.sampled_from([4864, 27_648]),
        vocabulary=some.sampled_from([1000, 151_674]),
    ),
    tied=some.booleans(),
)
precisions = some.builds(
    Precision, some.sampled_from(Dtype), some.sampled_from([None, *Quantization])
)
demands = some.builds(
    Demand, shapes, precisions, context=some.integers(1, 32_768), tiles=some.integers(1, 32)
)
memory = some.one_of(some.just(0.0), some.floats(0.5, 40.0))
gpus = some.lists(memory, min_size=1, max_size=8).map(lambda sizes: make_gpus(*sizes))
machines = some.builds(
    Machine,
    gpus,
    some.floats(1, 40).map(lambda size: Device(CPU, int(size * GB))),
    some.none() | some.floats(1, 40).map(lambda size: Device(DISK, int(size * GB))),
)


def fullest(plan: Plan) -> float:
    return max(load.share for load in plan.loads)


@steady
@given(demands, machines, some.sampled_from(Strategy), some.booleans())
def test_every_module_is_placed_once_and_the_ends_meet(
    demand: Demand, machine: Machine, strategy: Strategy, may_offload: bool
) -> None:
    plan = plan_devices(demand, machine, strategy, may_offload)
    assert set(plan.device_map) == set(demand.shape.modules)
    assert len({plan.device_map[module] for module in ENDS}) == 1
    assert plan.device_map[VISION] == plan.device_map[PROJECTOR]
    known = {device.name for device in (*machine.gpus, machine.cpu, machine.disk) if device}
    assert set(plan.device_map.values()) <= known


@steady
@given(demands, machines, some.sampled_from(Strategy), some.booleans())
def test_the_table_adds_up_to_the_bill_and_to_the_verdict(
    demand: Demand, machine: Machine, strategy: Strategy, may_offload: bool
) -> None:
    plan, bill = plan_devices(demand, machine, strategy, may_offload), reckon(demand)
    for load in plan.loads:
        held = [module for module, name in plan.device_map.items() if name == load.device.name]
        stored = plan.strategy is Strategy.OFFLOAD and load.device.name in (CPU, DISK)
        assert load.weights_bytes == sum(
            bill.plain_layer if stored and module.startswith(LAYERS) else bill.weights[module]
            for module in held
        )
    assert plan.kv_bytes == bill.kv_layer * demand.shape.text.layers
    used = [
        load.weights_bytes + load.kv_bytes + load.activation_bytes + load.reserve_bytes
        for load in plan.loads
    ]
    room = [load.device.free_bytes for load in plan.loads]
    assert plan.fits == all(need <= free for need, free in zip(used, room, strict=True))


@steady
@given(demands, machines)
def test_nothing_is_offloaded_unless_that_is_allowed(demand: Demand, machine: Machine) -> None:
    for strategy in SPREADING:
        plan = plan_devices(demand, machine, strategy)
        assert not {CPU, DISK} & set(plan.device_map.values())
        assert plan.strategy is strategy


@steady
@given(demands, machines)
def test_offloading_is_no_loss(demand: Demand, machine: Machine) -> None:
    plain = plan_devices(demand, machine)
    allowed = plan_devices(demand, machine, may_offload=True)
    assert allowed.fits >= plain.fits
    assert allowed.strategy is Strategy.BALANCED or (allowed.fits and not plain.fits)


@steady
@given(demands, machines)
def test_no_other_strategy_leaves_the_fullest_device_emptier_than_balanced(
    demand: Demand, machine: Machine
) -> None:
    balanced = plan_devices(demand, machine)
    for strategy in (Strategy.CARD, Strategy.SINGLE):
        other = plan_devices(demand, machine, strategy)
        assert balanced.fits >= other.fits
        if balanced.device_map[VISION] == balanced.device_map[ENDS[0]]:
            assert fullest(balanced) <= fullest(other)


@settings(steady, max_examples=40)
@given(
    some.builds(
        Demand,
        shapes.map(lambda shape: replace(shape, text=replace(shape.text, layers=5))),
        precisions,
        context=some.integers(1, 32_768),
    ),
    some.lists(some.floats(1, 20), min_size=1, max_size=3).map(lambda sizes: make_gpus(*sizes)),
)
def test_balanced_is_the_best_of_all_distributions(
    demand: Demand, devices: tuple[Device, ...]
) -> None:
    plan = plan_devices(demand, Machine(devices))
    together = list(distribute(demand, devices, apart=False))
    apart = list(distribute(demand, devices, apart=True))
    if min(together) > 1 and apart and min(apart) <= 1:
        assert fullest(plan) == pytest.approx(min(apart))
    else:
        assert fullest(plan) == pytest.approx(min(together))


def distribute(demand: Demand, devices: tuple[Device, ...], apart: bool) -> Iterator[float]:
    """The fullest share of every way to spread the layers, the tower with the ends or apart."""
    bill, depth, count = reckon(demand), demand.shape.text.layers, len(devices)
    for home, tower in product(range(count), repeat=2):
        if (home != tower) != apart:
            continue
        for layers in product(range(depth + 1), repeat=count):
            if sum(layers) == depth:
                yield max(
                    load_worker(device, Part(one == home, one == tower, layers[one]), bill).share
                    for one, device in enumerate(devices)
                )


@steady
@given(demands, machines, some.integers(0, 7), some.floats(0.1, 40))
def test_more_memory_never_makes_a_plan_fail(
    demand: Demand, machine: Machine, which: int, more: float
) -> None:
    index = which % len(machine.gpus)
    grown = list(machine.gpus)
    grown[index] = replace(grown[index], free_bytes=grown[index].free_bytes + int(more * GB))
    larger = replace(machine, gpus=tuple(grown))
    for strategy in SPREADING:
        before, after = (plan_devices(demand, one, strategy) for one in (machine, larger))
        assert after.fits >= before.fits
        if strategy is not Strategy.BALANCED:
            assert fullest(after) <= fullest(before)


@steady
@given(demands, machines)
def test_a_lighter_demand_fits_wherever_a_heavier_one_does(
    demand: Demand, machine: Machine
) -> None:
    shorter = replace(demand, context=max(1, demand.context // 2))
    fewer = replace(demand, tiles=max(1, demand.tiles // 2))
    for lighter in (shorter, fewer):
        assert plan_devices(lighter, machine).fits >= plan_devices(demand, machine).fits


@steady
@given(demands, machines)
def test_layers_of_balanced_lie_in_one_run_per_device(demand: Demand, machine: Machine) -> None:
    plan = plan_devices(demand, machine)
    owners = [plan.device_map[f"{LAYERS}.{index}"] for index in range(demand.shape.text.layers)]
    runs = [
        owner for owner, before in zip(owners, [None, *owners], strict=False) if owner != before
    ]
    assert len(runs) == len(set(runs))
    if plan.device_map[ENDS[0]] in runs:
        assert runs[0] == plan.device_map[ENDS[0]]


def test_the_vision_tower_leaves_the_ends_only_where_they_do_not_fit_together() -> None:
    shape = find_size("38B")
    assert shape is not None
    demand = Demand(shape, Precision(quantize=Quantization.NF4), context=4096)
    roomy, tight = (plan_devices(demand, Machine(make_gpus(*[gb] * 4))) for gb in (20, 14))
    assert roomy.fits
    assert roomy.device_map[VISION] == roomy.device_map[ENDS[0]]
    assert tight.fits
    assert tight.device_map[VISION] != tight.device_map[ENDS[0]]


def test_the_room_to_work_in_is_that_of_seeing_where_it_exceeds_reading() -> None:
    demand = Demand(SIZES[0], context=64, tiles=64)
    bill = reckon(demand)
    (load,) = plan_devices(demand, Machine(make_gpus(24))).loads
    assert bill.vision > bill.text + bill.ends
    assert load.activation_bytes == bill.vision


def test_offloaded_layers_compute_and_keep_their_cache_where_the_ends_are() -> None:
    shape = find_size("14B")
    assert shape is not None
    demand = Demand(shape)
    machine = Machine(make_gpus(24), Device(CPU, 64 * GB))
    plan = plan_devices(demand, machine, may_offload=True)
    assert plan.strategy is Strategy.OFFLOAD
    gpu, cpu = plan.loads
    assert gpu.kv_bytes == 48 * reckon(demand).kv_layer
    assert cpu.kv_bytes == cpu.activation_bytes == 0
    assert cpu.weights_bytes > 0
    assert next(iter(plan.device_map.values())) == "cuda:0"


def test_what_does_not_fit_the_memory_goes_to_the_disk() -> None:
    shape = find_size("14B")
    assert shape is not None
    machine = Machine(make_gpus(16), Device(CPU, 4 * GB), Device(DISK, 100 * GB))
    plan = plan_devices(Demand(shape), machine, Strategy.OFFLOAD)
    assert plan.fits
    assert {CPU, DISK} < set(plan.device_map.values())


def test_offloaded_layers_are_not_quantised() -> None:
    shape = find_size("38B")
    assert shape is not None
    demand = Demand(shape, Precision(quantize=Quantization.NF4))
    machine = Machine(make_gpus(30), Device(CPU, 200 * GB))
    plan = plan_devices(demand, machine, Strategy.OFFLOAD)
    stored = [name for name, device in plan.device_map.items() if device == CPU]
    plain = reckon(Demand(shape))
    assert [name for name in stored if name.startswith(LAYERS)]
    assert plan.loads[1].weights_bytes == sum(plain.weights[name] for name in stored)


@pytest.mark.parametrize(
    ("quantize", "gpus", "fits"),
    [
        (Quantization.INT8, 1, False),
        (Quantization.INT8, 2, True),
        (None, 2, False),
        (None, 3, True),
    ],
)
def test_the_78b_needs_as_many_80_gb_gpus_as_the_card_says(
    quantize: Quantization | None, gpus: int, fits: bool
) -> None:
    """The card: two with load_in_8bit, at least three without."""
    demand = Demand(SIZES[-1], Precision(quantize=quantize))
    assert plan_devices(demand, Machine(make_gpus(*[80] * gpus))).fits is fits


@pytest.mark.parametrize(
    ("machine", "strategy", "words"),
    [
        (Machine(), Strategy.BALANCED, "no device for the strategy balanced. Say what there is"),
        (Machine(make_gpus(80)), Strategy.CPU, "no device for the strategy cpu"),
        (Machine(cpu=Device(CPU, GB)), Strategy.CARD, "card's split is made for GPUs. Choose"),
        (Machine(make_gpus(80)), Strategy.OFFLOAD, "no device for the strategy offload"),
    ],
)
def test_a_strategy_without_its_device_is_refused(
    machine: Machine, strategy: Strategy, words: str
) -> None:
    with pytest.raises(BadSetting, match=words):
        plan_devices(Demand(SIZES[0]), machine, strategy)


def test_without_a_gpu_everything_is_on_the_cpu() -> None:
    plan = plan_devices(Demand(SIZES[0]), Machine(cpu=Device(CPU, 64 * GB)))
    assert set(plan.device_map.values()) == {CPU}
    assert plan.fits
