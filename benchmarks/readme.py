"""The README's figures: the block between two marks, which only a report may fill."""

from pathlib import Path

from benchmarks.report import Report, to_markdown

BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"


def block_of(text: str) -> str:
    """What stands between the marks; raises `ValueError` unless there is exactly one block."""
    return _parts(text)[1].strip()


def with_block(text: str, report: Report) -> str:
    """`text` with the report's table between its marks."""
    before, _, after = _parts(text)
    return f"{before}{BEGIN}\n{to_markdown(report)}\n{END}{after}"


def rewrite(readme: Path, report: Report) -> None:
    """Put the report's table into a file that has the marks."""
    readme.write_text(with_block(readme.read_text(encoding="utf-8"), report), encoding="utf-8")


def _parts(text: str) -> tuple[str, str, str]:
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"There must be one block from {BEGIN} to {END}.")
    before, _, rest = text.partition(BEGIN)
    block, _, after = rest.partition(END)
    return before, block, after
