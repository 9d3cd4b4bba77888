"""Rows of a file answered together: the same answers as one by one, whatever they look at."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import app
from backend.checkpoint.facts import Layout, read_facts
from backend.checkpoint.tokenizer import read_tokens
from backend.local.load import load_network
from backend.local.placement import Placement
from tests.backend.local.golden import FOLDER, draw

ORIGINAL = FOLDER / "qknorm-112"
ROWS = 60
WORDS = ("what", "is", "this", "and", "where", "are", "they", "compare", "describe", "the", "shape")


@pytest.fixture(params=Layout)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same random weights in each layout."""
    if request.param is Layout.ORIGINAL:
        return ORIGINAL
    folder = shutil.copytree(ORIGINAL, tmp_path / "native")
    tokens, placement = read_tokens(ORIGINAL), Placement(torch.float32)
    network = load_network(ORIGINAL, Layout.ORIGINAL, tokens, placement, lambda share: None)
    save_file(network.state_dict(), folder / "model.safetensors", {"format": "pt"})
    network.config.save_pretrained(folder)
    assert read_facts(folder).layout is Layout.HF
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Rows with no to four pictures of one to six tiles, and some that cannot be answered."""
    chance = random.Random(5)
    for number in range(6):
        size = chance.randrange(60, 400), chance.randrange(60, 400)
        draw(*size, number).save(tmp_path / f"{number}.png")
    made: list[object] = []
    for _ in range(ROWS):
        files = [f"{chance.randrange(6)}.png#tiles={chance.randrange(1, 7)}" for _ in range(4)]
        question = " ".join(chance.choices(WORDS, k=chance.randrange(1, 20)))
        images = files[: chance.randrange(5)]
        made.append({"question": question, "images": images, "combined": chance.random() < 0.2})
    made[7:7] = [{"question": "Q", "images": ["none.png"]}, {"question": ""}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    return path


def answer(model: Path, rows: Path, out: Path, *words: str) -> list[dict[str, Any]]:
    options = ["--model", str(model), "--max-new-tokens", "8", "--dtype", "float32", *words]
    assert app.main(["ask", "--batch", str(rows), "--out", str(out), *options]) == 0
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    names = "row", "question", "answer", "token_ids", "prompt_tokens", "visual_tokens", "end"
    return tuple(row.get(name) for name in (*names, "error"))


def test_rows_answered_together_are_answered_as_one_by_one(
    model: Path, rows: Path, tmp_path: Path
) -> None:
    together = answer(model, rows, tmp_path / "together.jsonl")
    alone = answer(model, rows, tmp_path / "alone.jsonl", "--batching", "off")
    assert len(together) == ROWS + 2
    assert [told(row) for row in together] == [told(row) for row in alone]
    assert sum("error" in row for row in together) == 2
    assert len({row["visual_tokens"] for row in together if "answer" in row}) > 5
