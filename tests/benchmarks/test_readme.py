"""The README's block of figures: filled by the command, and with nothing else."""

from pathlib import Path

import pytest

from benchmarks.readme import BEGIN, END, block_of, rewrite, with_block
from benchmarks.report import from_json, to_markdown
from tests.benchmarks.reports import REPORT

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RECORDED = RESULTS / "stop.json"


@pytest.mark.parametrize(
    ("document", "recorded"), [("README.md", "stop.json"), ("docs/measured.md", "rivals.json")]
)
def test_a_document_shows_what_the_recorded_run_gave(document: str, recorded: str) -> None:
    report = from_json((RESULTS / recorded).read_text(encoding="utf-8"))
    assert block_of((ROOT / document).read_text(encoding="utf-8")) == to_markdown(report)


def test_stop_was_measured_in_every_state() -> None:
    names = {entry.name for entry in from_json(RECORDED.read_text(encoding="utf-8")).measurements}
    for state in ("while writing", "in prefill", "in the queue"):
        assert any(name.startswith(f"Stop {state} → ") for name in names)
        assert any(name.startswith(f"Stop on the page {state} → page free") for name in names)


def test_only_the_block_is_rewritten(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"Before.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n", encoding="utf-8")
    rewrite(readme, REPORT)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("Before.\n\n")
    assert text.endswith("\n\nAfter.\n")
    assert block_of(text) == to_markdown(REPORT)
    assert with_block(text, REPORT) == text


@pytest.mark.parametrize("text", ["", f"{BEGIN}", f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_text_without_exactly_one_block_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="one block"):
        with_block(text, REPORT)
