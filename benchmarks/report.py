"""A report: the measurements of one run with their machine and versions, as JSON or as a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.measurement import Goal, Measurement, Spread

Cells = tuple[str, ...]
HEAD: Cells = ("what", "ours: median, p99, worst", "rival", "ratio (least – most)", "goal")
KEPT, MISSED = "✓", "✗"


@dataclass(frozen=True, slots=True)
class Report:
    """What one run gave."""

    machine: dict[str, str | int | float]
    versions: dict[str, str]
    measurements: tuple[Measurement, ...]


def to_json(report: Report) -> str:
    """The report for programs.

    `ratio`, `ours` and `rival` are medians and `spread` the least and the most of the ratio; the
    distributions behind `ours` and `rival` follow as `ours_spread` and `rival_spread`.
    """
    listed = [_to_entry(measurement) for measurement in report.measurements]
    whole = {"machine": report.machine, "versions": report.versions, "measurements": listed}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> Report:
    """The report that `to_json` wrote."""
    whole = json.loads(text)
    listed = tuple(_from_entry(entry) for entry in whole["measurements"])
    return Report(whole["machine"], whole["versions"], listed)


def to_table(measurements: Sequence[Measurement]) -> str:
    """The measurements for people, in columns."""
    rows = [HEAD, *map(to_cells, measurements)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def to_markdown(report: Report) -> str:
    """The measurements as a Markdown table, and where they were taken."""
    rows = [HEAD, ("---",) * len(HEAD), *map(to_cells, report.measurements)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", to_origin(report)])


def to_origin(report: Report) -> str:
    """One sentence on the machine and the versions."""
    machine, versions = report.machine, report.versions
    names = [f"{name} {version}" for name, version in versions.items() if name != "commit"]
    return (
        f"Measured by `python -m benchmarks` at {versions['commit'] or 'an unknown commit'} on "
        f"{machine['cores']} shared cores of {machine['cpu']} (load {machine['load']}), "
        f"{', '.join(names)}."
    )


def to_cells(measurement: Measurement) -> Cells:
    """One row of the table."""
    ours, rival, ratio = measurement.ours, measurement.rival, measurement.ratio
    figures = (ours.median, ours.p99, ours.most)
    once = len(set(figures)) == 1
    shown = show(ours.median) if once else ", ".join(map(show, figures))
    return (
        measurement.name,
        f"{shown} {measurement.unit}".strip(),
        f"{show(rival.median)} {measurement.unit}".strip() if rival else "–",
        f"{show(ratio.median)} ({show(ratio.least)} – {show(ratio.most)})" if ratio else "–",
        show_goal(measurement.goal),
    )


def show(figure: float) -> str:
    """Three digits are as many as a shared machine gives."""
    if figure and abs(figure) < 0.001:
        return f"{figure:.1e}"
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def show_goal(goal: Goal | None) -> str:
    """The goal, marked as kept or missed."""
    return f"{goal.text} {KEPT if goal.holds else MISSED}" if goal else "–"


def _to_entry(measurement: Measurement) -> dict[str, Any]:
    ours, rival, ratio = measurement.ours, measurement.rival, measurement.ratio
    goal = measurement.goal
    return {
        "name": measurement.name,
        "ratio": ratio.median if ratio else None,
        "spread": [ratio.least, ratio.most] if ratio else None,
        "goal": goal.text if goal else None,
        "holds": goal.holds if goal else None,
        "ours": ours.median,
        "rival": rival.median if rival else None,
        "unit": measurement.unit,
        "ours_spread": asdict(ours),
        "rival_spread": asdict(rival) if rival else None,
        "ratio_spread": asdict(ratio) if ratio else None,
    }


def _from_entry(entry: dict[str, Any]) -> Measurement:
    def spread_of(name: str) -> Spread | None:
        found = entry[f"{name}_spread"]
        return Spread(**found) if found else None

    goal = Goal(entry["goal"], entry["holds"]) if entry["goal"] else None
    ours = spread_of("ours")
    if ours is None:
        raise ValueError(f"{entry['name']} has no figure of ours")
    rival, ratio = spread_of("rival"), spread_of("ratio")
    return Measurement(entry["name"], entry["unit"], ours, rival, ratio, goal)
