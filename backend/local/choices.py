"""What a person's settings come to on this machine: one plan, decided before a byte is read.

settings + shape + free bytes  ──▶  dtype, attention, device map — or a refusal with numbers
"""

from dataclasses import dataclass

import torch

from backend.local.attention import choose_attention
from backend.local.device_map import make_device_map
from backend.local.devices import BOUNDLESS, MPS, free_on
from backend.local.placement import Placement
from backend.local.preparation import Prepared
from backend.local.quantization import require_quantizer
from backend.planner import costs
from backend.planner.advice import refuse_if_too_big
from backend.planner.choose import demand_of, quantization_wanted
from backend.planner.costs import Dtype, Quantization
from backend.planner.devices import CPU, Device, Machine
from backend.planner.plan import Plan, Strategy, plan_devices
from backend.planner.shapes import Shape
from backend.planner.turn import refuse_turn_if_too_big
from backend.settings import AUTO, Settings


@dataclass(frozen=True, slots=True)
class Choices:
    """A plan that fits, and the attention to compute with."""

    plan: Plan
    attention: str

    @property
    def placement(self) -> Placement:
        """The plan as the loader wants it; one device needs no map."""
        precision = self.plan.demand.precision
        device_map = make_device_map(self.plan)
        places = set(device_map.values())
        return Placement(
            dtype=getattr(torch, precision.dtype),
            attention=self.attention,
            quantize=precision.quantize,
            device_map={"": places.pop()} if len(places) == 1 else device_map,
        )

    @property
    def is_spread(self) -> bool:
        """Whether unquantised weights lie on several devices."""
        whole = self.plan.demand.precision.quantize is None
        return whole and len(set(self.plan.device_map.values())) > 1

    @property
    def on_processor(self) -> bool:
        """Whether the processor computes."""
        return self.plan.machine.workers[0].name == CPU


def decide(settings: Settings, shape: Shape, machine: Machine) -> Choices:
    """The best way to load a checkpoint of this shape on this machine.

    Raises `OutOfMemory`, with the numbers and the ways out, if it does not fit, and `BadSetting`
    for a choice that cannot work here.
    """
    strategy = Strategy(settings.strategy)
    quantize = quantization_wanted(settings)
    usable = _usable(machine, strategy)
    worker = usable.workers[0]
    if quantize:
        require_quantizer(quantize, shape.text, worker, settings.offload)
    dtype = choose_dtype(settings.dtype, shape, quantize, worker)
    attention = choose_attention(settings.attention, usable.workers, dtype)
    demand = demand_of(settings, shape, dtype)
    plan = plan_devices(demand, usable, strategy, settings.offload)
    refuse_if_too_big(plan)
    return Choices(plan, attention)


def choose_dtype(wanted: str, shape: Shape, quantize: Quantization | None, worker: Device) -> Dtype:
    """What is wanted, or what pays on a device; `backend.planner.costs` tells why."""
    if wanted != AUTO:
        return Dtype(wanted)
    if worker.name == CPU:
        memory = worker.free_bytes if worker.free_bytes < BOUNDLESS else 0
        return costs.choose_dtype(shape, quantize, memory)
    if worker.name == MPS or not torch.cuda.is_bf16_supported(including_emulation=False):
        return Dtype.FLOAT16
    return Dtype.BFLOAT16


def refuse_question(plan: Plan, prepared: Prepared) -> None:
    """Raise `OutOfMemory`, with the numbers and a remedy, for a question without room now."""
    budget = prepared.prompt.budget
    refuse_turn_if_too_big(
        plan,
        {worker.name: free_on(worker.name) for worker in plan.machine.workers},
        prompt_tokens=budget.total,
        new_tokens=prepared.room,
        tiles=budget.tiles,
    )


def told_free(plan: Plan) -> dict[str, int]:
    """Bytes free now on the devices that compute, where the system tells."""
    free = {worker.name: free_on(worker.name) for worker in plan.machine.workers}
    return {name: count for name, count in free.items() if count < BOUNDLESS}


def _usable(machine: Machine, strategy: Strategy) -> Machine:
    """The devices that a strategy may use."""
    if strategy is Strategy.CPU:
        return Machine(cpu=machine.cpu, disk=machine.disk)
    if any(gpu.name == MPS for gpu in machine.gpus):
        # The processor has the same memory there: it is no second place for layers.
        return Machine(machine.gpus)
    return machine
