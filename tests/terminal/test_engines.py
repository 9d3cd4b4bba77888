"""Engines elsewhere from the command line: what the words mean, and that they answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from backend.engine import State, Status
from backend.settings import Settings
from terminal.arguments import Ask, Batch, Serve, read_command
from terminal.interruption import Interruption
from terminal.serve import wait
from tests.backend.remote.scripted_server import ScriptedServer, refusal
from tests.fakes import FakeEngine
from tests.terminal.test_serve import end_soon

WORDS = ["--engine", "http://a:1/v1", "--engine", "http://b:2", "--api-key-file", "key"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.kill()


def test_engines_are_named_for_the_page_for_ask_and_for_batch() -> None:
    for words, kind in (([], Serve), (["ask", "Q"], Ask), (["ask", "--batch", "rows"], Batch)):
        command = read_command([*words, *WORDS])
        assert isinstance(command, kind) and command.settings.remote
        assert command.settings.engines == ("http://a:1/v1", "http://b:2")
        assert command.settings.api_key_file == "key"
    assert not Settings().remote
    listed = read_command(["--engines-file", "list"])
    assert isinstance(listed, Serve) and listed.settings.remote


def test_what_is_no_address_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--engine", "nonsense"], ["--engines-file", "/none"]):
        assert app.main(["ask", "Q", *words]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1


def test_an_engine_that_fails_is_status_3_in_one_line(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.scripts.append(refusal(500, {"error": "The pump broke."}))
    assert app.main(["ask", "Q", "--engine", server.url]) == 3
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "The pump broke." in said.err


def test_a_file_of_another_kind_is_refused_before_an_engine_is_asked(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_text("no picture")
    words = ["ask", "Q", "--image", str(tmp_path / "a.png"), "--engine", server.url]
    assert app.main(words) == 2
    assert "a.png" in capsys.readouterr().err and not server.asked


def test_rows_are_answered(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows").write_text('{"question": "One?"}\n{"question": "Two?"}\n')
    assert app.main(["ask", "--batch", str(tmp_path / "rows"), "--engine", server.url]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["answer"] for row in rows] == ["An answer.", "An answer."]


def test_the_page_says_where_the_engine_is(capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine("toy")
    engine.now = Status(State.LOADING, "toy", device="vLLM at llm:8000")
    end_soon(engine, State.READY, "")
    with Interruption() as interruption:
        wait(interruption, "http://127.0.0.1:1/", engine.status)
    assert "toy answers on vLLM at llm:8000. Ctrl-C ends it.\n" in capsys.readouterr().out
