"""How a model is loaded, and many rows at once, from the command line to the exit status."""

import json
import shutil
from pathlib import Path

import pytest

import app
from tests.backend.checkpoint.folders import ORIGINALS, change_json

HELLO = "Hello, who are you?"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--attention flash_attention_2", "--attention flash_attention_2 cannot work here: it "),
        ("--strategy card --dtype float32", "The card's split is made for GPUs."),
        ("--quantize nf4 --offload --strategy cpu", "On the processor a model is either"),
        ("--revision v1", "is a folder and has no revision 'v1'."),
        ("--context 4096", "bundled has a context of 2,048 tokens, not 4,096."),
    ],
)
def test_a_choice_that_cannot_work_is_one_line_and_status_2(
    words: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert app.main(["ask", HELLO, *words.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and reason in said.err


MOE = {"model_type": "qwen3_moe"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "qwen2_vl"}, "theirs holds a model of type 'qwen2_vl', not an InternVL. "),
        ({"model_type": "llava"}, "theirs holds a model of type 'llava', not an InternVL. Give a "),
        ({"llm_config": MOE}, "The language part of theirs is qwen3_moe, a mixture of experts, "),
    ],
)
def test_a_foreign_checkpoint_is_named_in_one_line_before_its_weights_are_read(
    changes: dict[str, object],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delattr("backend.local.load.load_network")
    folder = Path(shutil.copytree(ORIGINALS[1], tmp_path / "theirs"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if isinstance(part := changes.get("llm_config"), dict):
        changes = {"llm_config": config["llm_config"] | part}
    change_json(folder / "config.json", **changes)
    assert app.main(["ask", HELLO, "--model", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and reason in said.err
    assert "InternVL2.5, 3 or 3.5" in said.err


def test_every_choice_together_still_answers(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--dtype bfloat16 --quantize int8 --attention eager --context 512 --strategy cpu"
    assert app.main(["ask", HELLO, *words.split()]) == 0
    assert "InternVL" in capsys.readouterr().out


def test_rows_of_a_file_are_answered_and_a_bad_one_is_told(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    rows.write_text(f"no row\n{json.dumps({'question': HELLO})}\n", encoding="utf-8")
    for _ in range(2):  # the second time nothing is left to do
        assert app.main(["ask", "--batch", str(rows), "--out", str(out)]) == 0
    bad, good = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert "no JSON" in bad["error"] and "InternVL" in good["answer"]


def test_a_file_of_rows_that_is_none_is_refused_before_a_model_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("backend.local.engine.LocalEngine.start")
    assert app.main(["ask", "--batch", str(tmp_path / "rows.jsonl")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("rows.jsonl: it cannot be read") and str(tmp_path) not in said
