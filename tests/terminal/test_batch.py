"""Rows of a file: answered in order, faults in place, and gone on with after an interruption."""

import io
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.conversation import Sampling
from backend.engine import Stage, State
from backend.errors import BadFile, BadSetting, EngineFailed, OutOfMemory
from terminal.arguments import Batch, read_ask
from terminal.batch import answer_rows, read_rows
from terminal.interruption import Interruption
from tests.fakes import FakeEngine


def write(folder: Path, *rows: object) -> Path:
    """A file of rows; a text stands for itself."""
    path = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def asks(*questions: str) -> list[dict[str, str]]:
    return [{"question": question} for question in questions]


def run(engine: FakeEngine, rows: Path, *words: str) -> int:
    command = read_ask(["--batch", str(rows), *words])
    assert isinstance(command, Batch)
    with Interruption() as interruption:
        return answer_rows(command, engine, interruption)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_are_answered_in_their_order_with_their_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    first = {"question": "Compare.", "images": ["a.png#tiles=6", "b.png"], "combined": True}
    rows = write(tmp_path, first | {"id": "x"}, "", {"question": "你好"})
    engine = FakeEngine()
    engine.enqueue(["Both ", "black."])
    engine.enqueue(["Hi."])
    words = ["--system", "S", "--temperature", "0.5", "--max-new-tokens", "9", "--seed", "3"]
    assert run(engine, rows, *words) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["row"], one["question"], one["answer"]) for one in told] == [
        (1, "Compare.", "Both black."),
        (3, "你好", "Hi."),
    ]
    assert told[0]["id"] == "x" and "id" not in told[1]
    assert told[0]["token_ids"] == [0, 1] and told[0]["end"] == "eos"
    compared, greeted = (request.conversation for request in engine.requests)
    (turn,) = compared.turns
    assert turn.combined and compared.system == "S"
    assert [(file.path, file.max_tiles) for file in turn.attachments] == [
        (str(tmp_path / "a.png"), 6),
        (str(tmp_path / "b.png"), None),
    ]
    assert greeted.attachments == ()
    assert engine.requests[0].sampling == Sampling(0.5, max_new_tokens=9, seed=3)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("{", "This is no JSON"),
        ("[1]", "no JSON object"),
        ({"images": []}, "There is no question"),
        ({"question": " "}, "There is no question"),
        ({"question": 7}, "There is no question"),
        ({"question": "Q", "image": "a.png"}, "no 'image'. It has combined, id, images"),
        ({"question": "Q", "images": "a.png"}, "images is no list"),
        ({"question": "Q", "images": [""]}, "--image names no file"),
        ({"question": "Q", "images": ["a.png#tiles=0"]}, "a.png"),
        ({"question": "Q", "images": ["missing.png"]}, "missing.png"),
        ({"question": "Q", "videos": ["picture.png"]}, "this is an image, not a video"),
        ({"question": "Q", "combined": 1}, "combined is 1"),
    ],
)
def test_a_bad_row_holds_its_error_and_the_others_go_on(
    row: object, error: str, tmp_path: Path
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "picture.png")
    out = tmp_path / "answers.jsonl"
    assert run(FakeEngine(), write(tmp_path, row, *asks("Q")), "--out", str(out)) == 0
    bad, good = read(out)
    assert bad["row"] == 1 and error in bad["error"] and "answer" not in bad
    assert (good["row"], good["answer"]) == (2, "An answer.")


def test_what_the_engine_refuses_is_told_in_place(tmp_path: Path) -> None:
    engine, out = FakeEngine(), tmp_path / "answers.jsonl"
    engine.enqueue(["Half", OutOfMemory("No room.", "Ask less.")])
    assert run(engine, write(tmp_path, *asks("A", "B")), "--out", str(out)) == 0
    refused, answered = read(out)
    assert refused == {"row": 1, "question": "A", "error": "No room. Ask less."}
    assert answered["answer"] == "An answer."


def test_a_broken_engine_ends_the_run_with_what_is_done_kept(tmp_path: Path) -> None:
    engine, out = FakeEngine(), tmp_path / "answers.jsonl"
    rows = write(tmp_path, *asks("A", "B", "C"))
    engine.enqueue(["One."])
    engine.enqueue([0.2, EngineFailed("It broke.", "Restart.")])
    original = engine.status
    engine.status = lambda: original() if len(engine.requests) < 3 else broken(engine)  # type: ignore[method-assign]
    with pytest.raises(EngineFailed, match="It broke"):
        run(engine, rows, "--out", str(out))
    assert [one["row"] for one in read(out)] == [1]


def broken(engine: FakeEngine) -> Any:
    engine.become(State.FAILED, reason="It broke.")
    return engine.now


def test_an_interrupted_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    rows, out = write(tmp_path, *asks("A", "B", "C")), tmp_path / "answers.jsonl"
    engine = FakeEngine()
    engine.enqueue(["One."])
    engine.enqueue(["Tw", 60])
    interrupt_after_a_line_of(out, engine)
    assert run(engine, rows, "--out", str(out)) == 130
    assert [one["answer"] for one in read(out)] == ["One."]
    assert all(stream.closed or stream.statistics for stream in engine.streams)
    with out.open("a") as file:
        file.write('{"row": 2, "quest')  # as a run that was killed leaves it
    again = FakeEngine()
    assert run(again, rows, "--out", str(out)) == 0
    assert [r.conversation.turns[0].question for r in again.requests] == ["B", "C"]
    assert [one["row"] for one in read(out)] == [1, 2, 3]
    finished = FakeEngine()
    assert run(finished, rows, "--out", str(out)) == 0
    assert finished.requests == [] and len(read(out)) == 3


def interrupt_after_a_line_of(out: Path, engine: FakeEngine) -> None:
    """Press Ctrl-C while the row after the first that is written is being answered."""
    original = engine.status
    pressed: list[bool] = []

    def status() -> Any:
        if out.exists() and out.read_text() and not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return original()

    engine.status = status  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "kept", ['{"row": 1, "question": "Z"}\n', '{"row": 2, "question": "A"}\n', "[1]\n", "words\n"]
)
def test_answers_to_other_rows_are_not_touched(kept: str, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    out.write_text(kept)
    with pytest.raises(BadSetting, match="other things than answers to these rows"):
        run(FakeEngine(), write(tmp_path, *asks("A", "B")), "--out", str(out))
    assert out.read_text() == kept


def test_answers_that_cannot_be_written_are_refused_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    engine = FakeEngine()
    for out in (tmp_path, tmp_path / "none" / "answers.jsonl"):
        with pytest.raises(BadFile, match="it cannot be written"):
            run(engine, write(tmp_path, *asks("A")), "--out", str(out))
    assert engine.requests == []


def test_at_most_one_row_more_than_the_engine_answers_is_asked(tmp_path: Path) -> None:
    engine, waiting = FakeEngine(), []
    original = engine.stream

    def stream(request: Any) -> Any:
        waiting.append(sum(one.statistics is None for one in engine.streams))
        return original(request)

    engine.stream = stream  # type: ignore[method-assign]
    rows = write(tmp_path, *asks(*"ABCDE"))
    assert run(engine, rows, "--out", str(tmp_path / "answers.jsonl")) == 0
    assert len(waiting) == 5 and max(waiting) <= 1


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"\n\n", "no rows"), (b"\xff", "no text in UTF-8"), (None, "cannot be read")],
)
def test_a_file_without_rows_is_refused(content: bytes | None, error: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile, match=f"rows.jsonl: .*{error}"):
        read_rows(path)


def test_the_share_done_is_shown_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", screen := Screen())
    rows = write(tmp_path, *asks("A", "B", "C", "D"))
    run(FakeEngine(), rows, "--out", str(tmp_path / "answers.jsonl"))
    assert "0 of 4 rows, 0%" in screen.getvalue() and "3 of 4 rows, 75%" in screen.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        "--batch r Q",
        "--batch r --image a.png",
        "--batch r --then Q",
        "--batch r --json",
        "--batch r --dry-run",
        "--batch r --max-tiles 3",
        "--batch r --from 0",
        "Q --out a",
    ],
)
def test_what_a_batch_cannot_take_is_refused(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        read_ask(words.split())
    assert end.value.code == 2 and "--batch" in capsys.readouterr().err


class Slow(FakeEngine):
    """Answers `at_once` rows together; counts those that are with it."""

    def __init__(self, at_once: int) -> None:
        super().__init__()
        self.now = replace(self.now, at_once=at_once)
        self.most = 0
        self.during_first = 0

    def stream(self, request: Any) -> Any:
        told = super().stream(request)
        self.during_first += self.streams[0].progress.stage is not Stage.ENDED
        unanswered = [one for one in self.streams if one.progress.stage is not Stage.ENDED]
        self.most = max(self.most, len(unanswered))
        return told


@pytest.mark.parametrize(("words", "most"), [((), 4), (("--rows", "2"), 3), (("--rows", "9"), 10)])
def test_as_many_rows_are_asked_as_are_answered_at_once(
    words: tuple[str, ...], most: int, tmp_path: Path
) -> None:
    engine, out = Slow(at_once=3), tmp_path / "answers.jsonl"
    questions = [str(number) for number in range(30)]
    for number in range(30):
        # Every third one is quick, and so answered before its turn.
        engine.enqueue([0.0 if number % 3 else 0.15, f"answer {number}"])
    assert run(engine, write(tmp_path, *asks(*questions)), "--out", str(out), *words) == 0
    told = read(out)
    assert [one["question"] for one in told] == questions
    assert [one["answer"] for one in told] == [f"answer {number}" for number in range(30)]
    assert engine.most == most


def test_rows_go_on_being_asked_while_an_early_one_takes_long(tmp_path: Path) -> None:
    engine, out = Slow(at_once=2), tmp_path / "answers.jsonl"
    engine.enqueue([1.0, "slow"])
    for _ in range(20):
        engine.enqueue(["quick"])
    rows = write(tmp_path, *asks(*"ABCDEFGHIJKLMNOPQRSTU"))
    assert run(engine, rows, "--out", str(out)) == 0
    assert [one["answer"] for one in read(out)] == ["slow"] + ["quick"] * 20
    assert engine.during_first == 4 * 3  # as many as may be kept, and no more


@pytest.mark.parametrize("number", ["0", "65"])
def test_a_number_of_rows_out_of_range_is_refused(number: str) -> None:
    with pytest.raises(BadSetting, match="number of rows at once"):
        read_ask(["--batch", "r", "--rows", number])


def test_rows_are_for_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_ask(["Q", "--rows", "3"])
    assert "are for --batch" in capsys.readouterr().err
