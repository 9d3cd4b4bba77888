"""A conversation in the terminal: asked in order, shown as it comes, stopped by Ctrl-C."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backend.errors import EngineFailed, OutOfMemory
from terminal.arguments import Ask, read_ask
from terminal.ask import ask
from terminal.interruption import Interruption
from tests.fakes import FakeEngine

ROOT = Path(__file__).parents[2]


def hold(engine: FakeEngine, command: Ask) -> int:
    with Interruption() as interruption:
        return ask(command, engine, interruption)


def words(text: str) -> list[str]:
    return text.split()


def test_an_answer_is_printed_with_a_final_newline_and_its_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = FakeEngine()
    engine.enqueue(["A red ", "circle."])
    assert hold(engine, read_ask(["What is this?"])) == 0
    said = capsys.readouterr()
    assert said.out == "A red circle.\n"
    assert said.err.startswith("16 visual + 44 text tokens") and said.err.count("\n") == 1


def test_an_answer_is_written_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    engine.enqueue(["A ", 0.3, "B"])
    seen: list[tuple[str, bool]] = []

    class Screen(io.StringIO):
        """Remembers what was on it whenever it was flushed, and whether the answer had ended."""

        def flush(self) -> None:
            seen.append((self.getvalue(), engine.streams[0].statistics is not None))

    monkeypatch.setattr(sys, "stdout", Screen())
    hold(engine, read_ask(["Q"]))
    assert seen[0] == ("A ", False)
    assert seen[-1] == ("A B\n", True)


def test_later_questions_know_the_answers_before_them(capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine()
    engine.enqueue(["One."])
    engine.enqueue(["Two."])
    hold(engine, read_ask(["First", "--then", "Second", "--system", "Be brief.", "--seed", "3"]))
    assert capsys.readouterr().out == "One.\n\nTwo.\n"
    first, second = engine.requests
    assert (first.conversation.system, first.sampling.seed) == ("Be brief.", 3)
    assert [turn.question for turn in second.conversation.turns] == ["First", "Second"]
    answer = second.conversation.turns[0].answer
    assert answer is not None and (answer.text, answer.token_ids) == ("One.", (0,))
    assert second.conversation.waits


def test_json_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine("toy")
    engine.enqueue(["One ", "more."])
    assert hold(engine, read_ask(words("First --then Second --json"))) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert said.err == ""
    assert report["model"] == "toy"
    assert [(turn["question"], turn["answer"]) for turn in report["turns"]] == [
        ("First", "One more."),
        ("Second", "An answer."),
    ]
    assert report["turns"][0]["token_ids"] == [0, 1]
    assert report["turns"][0]["end"] == "eos"


def test_an_engine_that_fails_leaves_the_words_it_had_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = FakeEngine()
    engine.enqueue(["Half ", 0.2, OutOfMemory("No room.", "Use 6 tiles.")])
    with pytest.raises(OutOfMemory):
        hold(engine, read_ask(["Q"]))
    assert capsys.readouterr().out == "Half \n"


def test_an_engine_that_fails_leaves_the_turns_it_had_answered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = FakeEngine()
    engine.enqueue(["One."])
    engine.enqueue([EngineFailed("It broke.", "Ask again.")])
    with pytest.raises(EngineFailed):
        hold(engine, read_ask(words("First --then Second --json")))
    report = json.loads(capsys.readouterr().out)
    assert [turn["answer"] for turn in report["turns"]] == ["One."]


def test_without_any_answer_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine()
    engine.enqueue([EngineFailed("It broke.", "Ask again.")])
    with pytest.raises(EngineFailed):
        hold(engine, read_ask(words("First --json")))
    assert capsys.readouterr().out == ""


def interrupt_when_asked(engine: FakeEngine, count: int = 1) -> None:
    """Press Ctrl-C once the engine writes its answer number `count`."""

    def press() -> None:
        while len(engine.streams) < count or not engine.streams[-1].token_ids:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()


def test_ctrl_c_keeps_what_was_said_and_asks_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine()
    engine.enqueue(["Half", 60.0, " never"])
    interrupt_when_asked(engine)
    assert hold(engine, read_ask(words("First --then Second"))) == 130
    said = capsys.readouterr()
    assert said.out == "Half\n"
    assert said.err.endswith("stopped by you\n")
    assert len(engine.requests) == 1 and engine.streams[0].closed


def test_ctrl_c_leaves_a_whole_object(capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine()
    engine.enqueue(["One."])
    engine.enqueue(["Half", 60.0])
    interrupt_when_asked(engine, count=2)
    assert hold(engine, read_ask(words("First --then Second --then Third --json"))) == 130
    turns = json.loads(capsys.readouterr().out)["turns"]
    assert [(turn["answer"], turn["end"]) for turn in turns] == [
        ("One.", "eos"),
        ("Half", "stopped"),
    ]


def test_ctrl_c_before_the_first_word_is_a_stopped_answer_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = FakeEngine()
    engine.enqueue([60.0])
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert hold(engine, read_ask(words("First --json"))) == 130
    (turn,) = json.loads(capsys.readouterr().out)["turns"]
    assert (turn["answer"], turn["end"]) == ("", "stopped")


INTERRUPTED = """
import sys
from terminal.arguments import read_ask
from terminal.ask import ask
from terminal.border import run_guarded
from terminal.interruption import Interruption
from tests.fakes import FakeEngine

engine = FakeEngine()
engine.enqueue(["Half ", "an answer", 60.0])
with Interruption() as interruption:
    sys.exit(run_guarded(lambda: ask(read_ask(["Q"]), engine, interruption)))
"""


def test_ctrl_c_ends_the_process_with_130_and_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    started = os.read(process.stdout.fileno(), 100)
    assert started == b"Half " or started == b"Half an answer"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert started + out == b"Half an answer\n"
    assert err.decode().endswith("stopped by you\n") and err.count(b"\n") == 1
    assert process.returncode == 130
