"""The command: `python -m benchmarks [NAME]… [--quick] [--json F] [--readme] [--update F]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import describe_machine, describe_versions
from benchmarks.measurement import Measurement
from benchmarks.readme import BEGIN, END, rewrite
from benchmarks.report import Report, to_cells, to_json, to_markdown, to_origin, to_table
from benchmarks.suite import NAMES, ON_REQUEST, NotHere, measure


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this program side by side with its rivals and tell the ratios.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure: {', '.join(NAMES)} (all of these), or {', '.join(ON_REQUEST)}",
    )
    parser.add_argument("--quick", action="store_true", help="fewer tries and smaller work")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument(
        "--readme", action="store_true", help="print the table as Markdown, for the README"
    )
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help=f"put that table into FILE at {BEGIN} … {END}"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write. Returns the exit status: 2 for a name that does not exist, 1 when
    something asked for cannot be measured on this machine."""
    parser = make_parser()
    chosen = parser.parse_args(arguments)
    known = (*NAMES, *ON_REQUEST)
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"there is no measurement {unknown[0]!r}; choose from {', '.join(known)}")
    machine, versions = describe_machine(), describe_versions()
    measured: list[Measurement] = []
    missed = 0
    try:
        for measurement in measure(chosen.names or NAMES, chosen.quick):
            # At once, since a long run may be cut short.
            print("  ".join(to_cells(measurement)), file=sys.stderr, flush=True)
            measured.append(measurement)
    except NotHere as reason:
        print(reason, file=sys.stderr)
        missed = 1
    if not measured:
        return missed
    report = Report(machine, versions, tuple(measured))
    if chosen.json is not None:
        chosen.json.write_text(to_json(report), encoding="utf-8")
    if chosen.update is not None:
        rewrite(chosen.update, report)
    print(to_markdown(report) if chosen.readme else f"{to_table(measured)}\n\n{to_origin(report)}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
