"""Checkpoints as InternVL3 9B, InternLM2 weights and InternLM tokenizer, from command to answer.

The weights are those of the recorded InternLM2 checkpoint, with random rows for a vocabulary of
another size; upstream's ids of its prompts are recorded.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import app
from backend.checkpoint.facts import Layout, read_facts
from backend.checkpoint.tokenizer import read_tokens
from backend.local.decoding import ByteTable, TextDecoder
from backend.local.load import load_network
from backend.local.placement import Placement
from tests.backend.checkpoint.recorded_pieces import RECORDED, ROWS, Recorded
from tests.backend.local.golden import FOLDER, draw

SOURCE = FOLDER / "internlm2-112"
OF_THE_VOCABULARY = (
    "language_model.model.tok_embeddings.weight",
    "language_model.output.weight",
)
GREEDY = ["--max-new-tokens", "24", "--dtype", "float32", "--temperature", "0"]


@pytest.fixture(scope="module", params=RECORDED, ids=str)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    one: Recorded = request.param
    return one


@pytest.fixture(scope="module")
def model(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = recorded.write_checkpoint(tmp_path_factory.mktemp("internlm") / "mine", SOURCE)
    weights = load_file(SOURCE / "model.safetensors")
    chance = torch.Generator().manual_seed(7)
    for name in OF_THE_VOCABULARY:
        spread, width = weights[name].std(), weights[name].shape[1]
        weights[name] = spread * torch.randn(ROWS, width, generator=chance)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    draw(300, 200, 1).save(path)
    return path


def ask(*words: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert app.main(["ask", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def generate(model: Path, ids: list[int], length: int) -> list[int]:
    """What transformers writes after these ids."""
    layout, placement = Layout.ORIGINAL, Placement(torch.float32)
    network = load_network(model, layout, read_tokens(model), placement, lambda share: None)
    (end,) = read_facts(model).eos_token_ids
    prompt = torch.tensor([ids])
    answer = network.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=length,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
    )
    return [int(token) for token in answer[0, len(ids) :]]


def read(model: Path, ids: list[int]) -> str:
    decoder = TextDecoder(ByteTable(read_tokens(model)))
    return "".join(map(decoder.feed, ids)) + decoder.end()


def test_the_answer_is_what_follows_upstream_s_prompt(
    recorded: Recorded, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = recorded.prompts[0]
    assert case["kind"] == "text only"
    told = ask("Hello, who are you?", "--model", str(model), *GREEDY, capsys=capsys)["turns"][0]
    assert told["prompt_tokens"] == len(case["ids"])
    assert told["token_ids"] == generate(model, case["ids"], 24)
    assert told["answer"] == read(model, told["token_ids"])


def test_a_picture_and_a_second_turn_are_answered(
    model: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["What is it?", "--image", str(picture), "--then", "And now?"]
    first, second = ask(*words, "--model", str(model), *GREEDY, capsys=capsys)["turns"]
    assert first["visual_tokens"] == second["visual_tokens"] == 7 * 16
    assert second["prompt_tokens"] > first["prompt_tokens"]
    for told in (first, second):
        assert told["answer"] == read(model, told["token_ids"]) != ""


def test_rows_of_a_file_are_answered_as_one_by_one(
    model: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    asked: list[dict[str, Any]] = [
        {"question": "Hello, who are you?"},
        {"question": "สวัสดี <s>你好</s>", "images": [str(picture)]},
    ]
    rows.write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    batch = ["--batch", str(rows), "--out", str(out), "--model", str(model), *GREEDY]
    assert app.main(["ask", *batch]) == 0
    capsys.readouterr()
    lines = out.read_text(encoding="utf-8").splitlines()
    for row, answered in zip(asked, map(json.loads, lines), strict=True):
        files = [word for image in row.get("images", ()) for word in ("--image", image)]
        words = [row["question"], *files, "--model", str(model), *GREEDY]
        (alone,) = ask(*words, capsys=capsys)["turns"]
        assert answered["token_ids"] == alone["token_ids"]
        assert answered["answer"] == alone["answer"] == read(model, alone["token_ids"])


def test_a_dry_run_shows_how_the_prompt_begins(
    model: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["What is it?", "--image", str(picture), "--model", str(model), "--dry-run"]
    told = ask(*words, capsys=capsys)
    assert told["prompt"].startswith("<s><|im_start|>system\n")
    assert "<img>{112}</img>\nWhat is it?<|im_end|>" in told["prompt"]
    assert told["tokens"]["visual"] == 7 * 16


def test_the_end_of_an_answer_is_read_from_the_files(recorded: Recorded, model: Path) -> None:
    named = recorded.config["added_tokens_decoder"].items()
    (end,) = (int(number) for number, token in named if token["content"] == "<|im_end|>")
    assert read_facts(model).eos_token_ids == (end,)
