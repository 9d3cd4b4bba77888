"""Ways out when a checkpoint does not fit, each one planned and found to fit before it is named.

Knows the seven sizes and a few usual machines; knows no command line but its options' names.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from backend.errors import OutOfMemory
from backend.planner.adapters import NOTHING
from backend.planner.costs import Demand, Dtype, Precision, Quantization
from backend.planner.devices import Device, Machine, describe, in_gb, make_gpus
from backend.planner.plan import Plan, Strategy, plan_devices
from backend.planner.sizes import SIZES

MOST_WAYS = 3
LEAST_CONTEXT = 4096  # tokens: less has no room for a picture of twelve tiles and an answer
# GPUs as they are sold, from the smallest machine to the largest: (count, GB each).
USUAL_MACHINES = (
    *((1, 8), (1, 12), (1, 16), (1, 24), (1, 32), (1, 48), (2, 24), (1, 80)),
    *((2, 48), (2, 80), (4, 48), (3, 80), (4, 80), (8, 80)),
)


@dataclass(frozen=True, slots=True)
class Way:
    """A way out, as what a person could choose instead, and the plan that proves it."""

    text: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class _Idea:
    """A way out not yet proven."""

    text: str
    demand: Demand
    strategy: Strategy


def find_ways_out(plan: Plan) -> tuple[Way, ...]:
    """At most three ways to run this, or the like of it, that do fit; none if the plan fits."""
    if plan.fits:
        return ()
    here = islice(_ways_here(plan), MOST_WAYS - 1)
    return (*here, *_ways_elsewhere(plan.demand))


def refuse_if_too_big(plan: Plan) -> None:
    """Raise `OutOfMemory`, with the numbers and the ways out, if the plan does not fit."""
    if plan.fits:
        return
    ways = [way.text for way in find_ways_out(plan)]
    advice = f"Choose {', or '.join(ways)}." if ways else "Choose a smaller checkpoint."
    raise OutOfMemory(explain(plan), advice)


def explain(plan: Plan) -> str:
    """`38B in bfloat16 needs 77 GB + 4.3 GB cache for … + …; here are 2 × 24 GB.`"""
    demand, workers = plan.demand, plan.machine.workers
    rest = plan.used_bytes - plan.weights_bytes - plan.kv_bytes
    needs = (
        f"{demand.shape.name} in {demand.precision} needs {in_gb(plan.weights_bytes)}"
        f" + {in_gb(plan.kv_bytes)} cache for {demand.context:,} tokens"
        f" + {in_gb(rest)} to work in"
    )
    verb = "are" if len(workers) > 1 else "is"
    text = f"{needs}; here {verb} {describe(workers)}"
    if plan.used_bytes <= sum(device.free_bytes for device in workers):
        # The sum alone would not explain why.
        fullest = max(plan.loads, key=lambda load: load.share)
        text += f", and {fullest.device.name} would hold {in_gb(fullest.used_bytes)}"
    return f"{text}."


def smallest_usual_machine(demand: Demand) -> tuple[Device, ...]:
    """The GPUs of the smallest usual machine that a demand fits on; empty if on none."""
    machines = (make_gpus(*[size] * count) for count, size in USUAL_MACHINES)
    fitting = (gpus for gpus in machines if plan_devices(demand, Machine(gpus)).fits)
    return next(fitting, ())


def _ways_here(plan: Plan) -> Iterator[Way]:
    """On this machine: another split, lighter, smaller, shorter, or partly in a store."""
    demand, strategy = plan.demand, plan.strategy
    balanced = [_Idea("the balanced split (--strategy balanced)", demand, Strategy.BALANCED)]
    lighter = (
        _Idea(text, replace(demand, precision=precision), strategy)
        for text, precision in _lighter_than(demand.precision)
    )
    smaller = (
        # An adapter belongs to its own checkpoint.
        _Idea(shape.name, replace(demand, shape=shape, adapter=NOTHING), strategy)
        for shape in reversed(SIZES)
        if shape.parameters < demand.shape.parameters
        and demand.context <= shape.context
        and not shape.unconfirmed
    )
    shorter = (
        _Idea(
            f"a context of {tokens:,} tokens (--context {tokens})",
            replace(demand, context=tokens),
            strategy,
        )
        for tokens in _shorter_than(demand.context)
    )
    stored = [_Idea("offloading, which is slow (--offload)", demand, Strategy.OFFLOAD)]
    for ideas in (balanced, lighter, smaller, shorter, stored if plan.machine.stores else ()):
        yield from _first_that_fits(plan.machine, ideas)


def _ways_elsewhere(demand: Demand) -> Iterator[Way]:
    """The same on the smallest usual machine that has room for it."""
    if gpus := smallest_usual_machine(demand):
        text = f"an engine on another machine, with {describe(gpus)}"
        yield Way(text, plan_devices(demand, Machine(gpus)))


def _first_that_fits(machine: Machine, ideas: Iterable[_Idea]) -> Iterator[Way]:
    ways = (Way(one.text, plan_devices(one.demand, machine, one.strategy)) for one in ideas)
    yield from islice((way for way in ways if way.plan.fits), 1)


def _lighter_than(precision: Precision) -> Iterator[tuple[str, Precision]]:
    """Precisions that take less room, the more exact first."""
    if precision.dtype is Dtype.FLOAT32:
        yield "bfloat16 (--dtype bfloat16)", Precision(quantize=precision.quantize)
    dtype = precision.dtype
    if precision.quantize is None:
        yield "int8 (--quantize int8)", Precision(dtype, Quantization.INT8)
    if precision.quantize is not Quantization.NF4:
        yield "nf4 (--quantize nf4)", Precision(dtype, Quantization.NF4)


def _shorter_than(context: int) -> Iterator[int]:
    """Powers of two below, down to the least that is of use."""
    tokens = 1 << (context - 1).bit_length() >> 1
    while tokens >= LEAST_CONTEXT:
        yield tokens
        tokens //= 2
