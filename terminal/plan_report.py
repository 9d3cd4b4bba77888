"""How plans are printed: the object of --json, tables of bytes, and the fit table.

Pure: plans in, text out. Tables are aligned for a terminal or written as Markdown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from backend.planner.advice import explain
from backend.planner.devices import describe, in_gb
from backend.planner.loads import Load
from backend.planner.plan import Plan
from backend.planner.shapes import LAYERS, Shape

PROCESSOR_NOTE = (
    " On the processor --dtype auto takes float32 where that fills half of the memory at most; "
    "app.py plan MODEL tells what it needs then."
)


@dataclass(frozen=True, slots=True)
class Row:
    """A size of the fit table and its plan in every precision; `here` if on a given machine."""

    shape: Shape
    plans: tuple[Plan, ...]
    here: bool


def plan_object(plan: Plan, ways: Sequence[str]) -> dict[str, object]:
    """The object of `--json`."""
    return {
        "model": plan.demand.shape.name,
        "fits": plan.fits,
        "strategy": str(plan.strategy),
        "device_map": dict(plan.device_map),
        "devices": [
            {
                "name": load.device.name,
                "free_bytes": load.device.free_bytes,
                "weights_bytes": load.weights_bytes,
                "kv_bytes": load.kv_bytes,
                "activation_bytes": load.activation_bytes,
            }
            for load in plan.loads
        ],
        "advice": list(ways),
    }


def plan_text(plan: Plan, ways: Sequence[str], markdown: bool) -> str:
    """For a person: the verdict, what lies where, the bytes of each device, the ways out."""
    demand = plan.demand
    parts = [
        f"{demand.shape.name} ({demand.shape.parameters:,} parameters"
        f"{', shape not confirmed' if demand.shape.unconfirmed else ''}) in {demand.precision}, "
        f"{plan.strategy}: {'fits' if plan.fits else 'does not fit'}.",
        _byte_table(plan, markdown),
        "\n".join(_places(plan)),
    ]
    if not plan.fits:
        listed = ["What would fit:", *(f"- {way}" for way in ways)] if ways else []
        parts.append("\n".join([explain(plan), *listed]))
    return "\n\n".join(parts)


def fit_object(rows: Sequence[Row]) -> dict[str, object]:
    """The fit table as an object."""
    return {
        "sizes": [
            {
                "model": row.shape.name,
                "parameters": row.shape.parameters,
                "unconfirmed": row.shape.unconfirmed,
                "precisions": {str(plan.demand.precision): _fit(plan) for plan in row.plans},
            }
            for row in rows
        ]
    }


def fit_table(rows: Sequence[Row], markdown: bool) -> str:
    """The fit table for a person, and under it what the figures hold."""
    precisions = [str(plan.demand.precision) for plan in rows[0].plans]
    header = ["size", "parameters", *precisions]
    cells = [
        [
            row.shape.name,
            f"{row.shape.parameters / 1e9:.2f} B",
            *(_fit_cell(plan, row.here) for plan in row.plans),
        ]
        for row in rows
    ]
    demand = rows[0].plans[0].demand
    where = (
        f"Here {describe(rows[0].plans[0].machine.workers)}."
        if rows[0].here
        else "Beside each figure the smallest usual machine."
    )
    unsure = ", ".join(row.shape.name for row in rows if row.shape.unconfirmed)
    notes = (
        f"Weights, a cache of {demand.context:,} tokens, room to read as many at once and to see "
        f"{demand.tiles} tiles at once, and a reserve. {where} Shape not confirmed: {unsure}."
    )
    if rows[0].here and not rows[0].plans[0].machine.gpus:
        notes += PROCESSOR_NOTE
    return f"{draw(header, cells, markdown)}\n\n{notes}"


def draw(header: Sequence[str], rows: Iterable[Sequence[str]], markdown: bool) -> str:
    """A table in columns; as Markdown, or padded for a terminal."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in padded)
    rule = ["-" * width for width in widths]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))


def _byte_table(plan: Plan, markdown: bool) -> str:
    header = ["device", "free", "weights", "cache", "at work", "reserve", "used"]
    return draw(header, [_bytes_of(load) for load in plan.loads], markdown)


def _bytes_of(load: Load) -> list[str]:
    sizes = (
        load.device.free_bytes,
        load.weights_bytes,
        load.kv_bytes,
        load.activation_bytes,
        load.reserve_bytes,
    )
    return [load.device.name, *map(in_gb, sizes), f"{load.share:.0%}"]


def _places(plan: Plan) -> list[str]:
    """`cuda:0: embed_tokens, rotary_emb, …, layers 0–11`, one line per device in use."""
    held: dict[str, list[str]] = {}
    for module, device in plan.device_map.items():
        held.setdefault(device, []).append(module)
    return [f"{device}: {', '.join(_shorten(modules))}" for device, modules in held.items()]


def _shorten(modules: Sequence[str]) -> list[str]:
    """Last parts of the names; runs of layers as `layers 0–11`."""
    prefix = f"{LAYERS}."
    names = [name.rpartition(".")[2] for name in modules if not name.startswith(prefix)]
    layers = [int(name.removeprefix(prefix)) for name in modules if name.startswith(prefix)]
    runs = groupby(enumerate(layers), lambda pair: pair[1] - pair[0])
    for _, run in runs:
        indices = [index for _, index in run]
        names.append(f"layers {indices[0]}–{indices[-1]}" if indices[1:] else f"layer {indices[0]}")
    return names


def _fit(plan: Plan) -> dict[str, object]:
    return {
        "weights_bytes": plan.weights_bytes,
        "kv_bytes": plan.kv_bytes,
        "activation_bytes": plan.activation_bytes,
        "used_bytes": plan.used_bytes,
        "fits": plan.fits,
        "machine": describe(plan.machine.workers),
    }


def _fit_cell(plan: Plan, here: bool) -> str:
    verdict = ("fits" if plan.fits else "no") if here else describe(plan.machine.workers)
    return f"{in_gb(plan.used_bytes)}: {verdict}"
