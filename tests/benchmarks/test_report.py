"""The forms of a report."""

import json

from benchmarks.report import from_json, show, to_json, to_markdown, to_table
from tests.benchmarks.reports import MISSED, REPORT

KEYS = {"name", "ratio", "spread", "goal", "holds", "ours", "rival", "unit"}


def test_the_json_has_machine_versions_and_measurements() -> None:
    whole = json.loads(to_json(REPORT))
    assert set(whole) == {"machine", "versions", "measurements"}
    assert whole["machine"]["cores"] == 2
    assert whole["versions"]["torch"] == "2.13.0"
    assert all(set(entry) >= KEYS for entry in whole["measurements"])


def test_a_measurement_gives_medians_and_the_spread_of_its_ratio() -> None:
    entry = json.loads(to_json(REPORT))["measurements"][0]
    assert {key: entry[key] for key in KEYS} == {
        "name": "streamer, rival: the stock one",
        "ratio": 200,
        "spread": [150, 240],
        "goal": "≥ 100",
        "holds": True,
        "ours": 3,
        "rival": 600,
        "unit": "µs",
    }


def test_a_figure_without_rival_has_no_ratio() -> None:
    entry = json.loads(to_json(REPORT))["measurements"][1]
    assert (entry["ours"], entry["rival"], entry["ratio"], entry["spread"]) == (0, None, None, None)


def test_a_report_survives_json() -> None:
    assert from_json(to_json(REPORT)) == REPORT


def test_the_table_has_a_row_for_each_measurement_and_marks_what_was_missed() -> None:
    head, *rows = to_table(REPORT.measurements).splitlines()
    assert head.startswith("what")
    assert len(rows) == len(REPORT.measurements)
    assert "≥ 100 ✓" in rows[0]
    assert rows[2].split() == [
        MISSED.name, "0.2,", "0.9,", "1", "s", "–", "–", "p99", "≤", "0.5", "s", "✗",
    ]  # fmt: skip


def test_the_markdown_says_where_the_figures_were_taken() -> None:
    lines = to_markdown(REPORT).splitlines()
    assert lines[2] == (
        "| streamer, rival: the stock one | 3, 4, 4 µs | 600 µs | 200 (150 – 240) | ≥ 100 ✓ |"
    )
    assert "abc1234" in lines[-1]
    assert "2 shared cores of A Processor (load 3.5)" in lines[-1]
    assert "torch 2.13.0" in lines[-1]


def test_figures_are_shown_with_three_digits() -> None:
    assert [show(figure) for figure in (0, 2.4e-7, 0.01234, 5.678, 99.96, 14743.2)] == [
        "0", "2.4e-07", "0.0123", "5.68", "100", "14,743",
    ]  # fmt: skip
