"""How people ask. Every kind has wordings to train on and others kept for the evaluation alone.

The lists stand in text files beside this module, `# kind` above each, `## held` before those that
are never trained. `{}` stands for what is asked about: a shape's name, a place, a picture's number.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Wordings:
    """`held` is never trained."""

    trained: tuple[str, ...]
    held: tuple[str, ...]


@cache
def load_wordings(family: str) -> dict[str, Wordings]:
    """The wordings of each kind in a family: picture, film, pair or chat."""
    text = (Path(__file__).parent / f"{family}.txt").read_text(encoding="utf-8")
    return dict(_parse(block) for block in text.split("\n# "))


def _parse(block: str) -> tuple[str, Wordings]:
    trained, _, held = block.partition("\n## held\n")
    kind, *lines = trained.removeprefix("# ").strip().splitlines()
    return kind, Wordings(tuple(lines), tuple(held.strip().splitlines()))
