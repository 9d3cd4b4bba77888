"""What upstream's tokenizers of InternLM made of two small SentencePiece models.

tests/golden/sentencepiece/expected.json says how it was recorded. Each model was given to both of
upstream's classes; in `joined.model` the signs stand as pieces by other names, in `prefixed.model`
as themselves, so that the plain library would read both from text.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backend.checkpoint.folders import GOLDEN, ORIGINAL, change_json, copy_small_files

FOLDER = GOLDEN / "sentencepiece"
ROWS = 1024  # of the embedding; more than there are tokens


@dataclass(frozen=True)
class Recorded:
    """One class of upstream's on one model: its configuration, and what it gave."""

    model: str
    config: dict[str, Any]
    prompts: list[dict[str, Any]]
    texts: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    without: list[int]

    def __str__(self) -> str:
        return f"{self.config['tokenizer_class']}-{self.model}"

    def write(self, folder: Path) -> Path:
        """The tokenizer's files, in a folder that is there or not."""
        folder.mkdir(exist_ok=True)
        shutil.copy(FOLDER / self.model, folder / "tokenizer.model")
        text = json.dumps(self.config)
        (folder / "tokenizer_config.json").write_text(text, "utf-8")
        return folder

    def write_checkpoint(self, folder: Path, source: Path = ORIGINAL) -> Path:
        """The small files of a checkpoint with this tokenizer instead of its own."""
        copy_small_files(source, folder)
        for name in ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"):
            (folder / name).unlink()
        language = json.loads((folder / "config.json").read_text("utf-8"))["llm_config"]
        change_json(folder / "config.json", llm_config=language | {"vocab_size": ROWS})
        return self.write(folder)


def read_recorded() -> list[Recorded]:
    content = json.loads((FOLDER / "expected.json").read_text("utf-8"))
    return [Recorded(**one) for one in content["tokenizers"]]


RECORDED = read_recorded()
