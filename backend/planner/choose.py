"""Which sizes a machine has room for, the largest first: what `--model auto` chooses from.

Pure arithmetic on the seven sizes. Whether the files can be had is asked elsewhere.
"""

from dataclasses import replace
from pathlib import Path

from backend.planner.adapters import measure_adapter
from backend.planner.costs import CONTEXT, Demand, Dtype, Precision, Quantization, choose_dtype
from backend.planner.devices import CPU, Machine
from backend.planner.plan import Plan, Strategy, plan_devices
from backend.planner.shapes import Shape
from backend.planner.sizes import SIZES
from backend.settings import AUTO, Settings

# Larger ones may fit a processor's memory, but not the patience of whoever waits for them.
SIZES_FOR_A_PROCESSOR = ("1B",)


def choose_sizes(settings: Settings, machine: Machine) -> tuple[Shape, ...]:
    """The sizes that fit as `settings` want them loaded, the largest first; none may fit.

    Nothing is offloaded for it, since that is slow, and a size whose shape is not confirmed is
    never chosen for a person.
    """
    on_processor = settings.strategy == Strategy.CPU or not machine.gpus
    return tuple(
        shape
        for shape in reversed(SIZES)
        if not shape.unconfirmed
        and (shape.name in SIZES_FOR_A_PROCESSOR or not on_processor)
        and fits(shape, settings, machine)
    )


def fits(shape: Shape, settings: Settings, machine: Machine) -> bool:
    """Whether a size has room here with the context, the precision and the split wanted."""
    if settings.context is not None and settings.context > shape.context:
        return False
    return plan_wanted(shape, replace(settings, offload=False), machine).fits


def plan_wanted(shape: Shape, settings: Settings, machine: Machine) -> Plan:
    """Where a checkpoint would go with the context, the precision and the split wanted."""
    strategy = Strategy(settings.strategy)
    on_gpus = machine.gpus and strategy is not Strategy.CPU
    memory = machine.cpu.free_bytes if machine.cpu and not on_gpus else None
    quantize = quantization_wanted(settings)
    dtype = choose_dtype(shape, quantize, memory) if settings.dtype == AUTO else settings.dtype
    demand = demand_of(settings, shape, Dtype(dtype))
    return plan_devices(demand, machine, strategy, settings.offload)


def say_why_dtype(wanted: str, dtype: str, device: str) -> str:
    """Why `dtype` was taken on `device` where that was left to the program, else nothing.

    `backend.planner.costs.choose_dtype` has the measurement behind it.
    """
    if wanted != AUTO:
        return ""
    if device.startswith(CPU):
        if dtype == Dtype.FLOAT32:
            return "auto: float32 is the quickest on a processor"
        return f"auto: {dtype} as in its files, as float32 would fill over half of the memory"
    if dtype == Dtype.BFLOAT16:
        return "auto: bfloat16 takes half the bytes, and this device computes in it"
    return f"auto: {dtype} takes half the bytes, and bfloat16 is not computed in here"


def demand_of(settings: Settings, shape: Shape, dtype: Dtype) -> Demand:
    """What a checkpoint needs room for, computed in `dtype` and else as wanted.

    Raises `BadCheckpoint` for an adapter whose files are missing or of another kind.
    """
    context = settings.context or min(CONTEXT, shape.context)
    folder = Path(settings.adapter).expanduser() if settings.adapter else None
    precision = Precision(dtype, quantization_wanted(settings))
    return Demand(shape, precision, context, adapter=measure_adapter(folder))


def quantization_wanted(settings: Settings) -> Quantization | None:
    """How matrices are to be stored; `None` as they are."""
    return Quantization(settings.quantize) if settings.quantize else None
