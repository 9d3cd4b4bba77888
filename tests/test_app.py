"""The app as a whole, from the command line: exit statuses, one line of reason, a real answer."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, ImageDraw

import app
from backend.engine import State
from backend.local.zero import ZeroEngine
from backend.settings import Settings
from terminal.arguments import Serve
from tests.backend.checkpoint.folders import ORIGINAL, copy_small_files
from tests.backend.local.lent_gpus import LentGpus
from tests.fakes import FakeEngine

ROOT = Path(__file__).parent.parent
SLOW = {"gradio", "torch", "transformers", "av", "PIL", "tokenizers", "huggingface_hub"}
RECORDED = ORIGINAL.parent / "qknorm-112"  # the quickest of the originals


def python(*words: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def modules_after(*words: str) -> set[str]:
    """Top names of the modules that a command imports."""
    code = (
        "import sys\nfrom app import main\n"
        f"try: main({list(words)!r})\nexcept SystemExit: pass\n"
        "print('\\n' + ' '.join(sys.modules))"
    )
    out, _ = python("-c", code).communicate(timeout=60)
    return {name.split(".")[0] for name in out.splitlines()[-1].split()}


@pytest.fixture
def red_circle(tmp_path: Path) -> Path:
    picture = Image.new("RGB", (224, 224), "white")
    ImageDraw.Draw(picture).ellipse((60, 60, 160, 160), fill="red")
    picture.save(tmp_path / "red.png")
    return tmp_path / "red.png"


@pytest.mark.parametrize("words", [["--help"], ["ask", "--help"], ["ask", "Q", "--seed", "x"]])
def test_help_and_refusals_come_before_anything_slow_is_imported(words: list[str]) -> None:
    assert not SLOW & modules_after(*words)


def test_a_dry_run_imports_no_engine(red_circle: Path) -> None:
    modules = modules_after("ask", "Q", "--image", str(red_circle), "--dry-run")
    assert "tokenizers" in modules
    assert not {"torch", "transformers", "gradio", "accelerate"} & modules


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gone.png", None),
        ("empty.png", b""),
        ("text.png", b"hello"),
        ("cut.png", b"\x89PNG\r\n\x1a\n"),
    ],
)
def test_a_bad_file_is_named_before_a_model_is_made(
    name: str,
    content: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    monkeypatch.delattr("backend.local.engine.LocalEngine.start")
    assert app.main(["ask", "Q", "--image", str(tmp_path / name)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"{name}: ") and str(tmp_path) not in said.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["ask", ""], "question"),
        (["ask", "Q", "--temperature", "nan"], "temperature"),
        (["ask", "Q", "--max-new-tokens", "1000000000"], "max new tokens"),
        (["ask", "Q", "--model", "nonesuch"], "nonesuch"),
        (["ask", "word " * 3000], "of 2,048 tokens"),
        (["--port", "-1"], "port"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and named in said.err


def test_a_checkpoint_without_weights_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("backend.local.engine.LocalEngine.start")
    folder = copy_small_files(ORIGINAL, tmp_path / "model")
    assert app.main(["ask", "Q", "--model", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "no weights" in said.err


class StartedEngine(FakeEngine):
    """A scripted engine in the place of the real one."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.model)
        self.started = False
        self.composer = None

    def start(self) -> None:
        self.started = True


def test_a_failed_engine_is_status_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failed(StartedEngine):
        def start(self) -> None:
            self.become(State.FAILED, reason="The device caught fire.")

    monkeypatch.setattr("backend.local.engine.LocalEngine", Failed)
    assert app.main(["ask", "Q", "--json"]) == 3
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "The device caught fire. Restart the app.\n")


def test_a_real_checkpoint_looks_at_a_picture_and_follows_up(
    red_circle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["What is this?", "--image", str(red_circle), "--then", "Describe it.", "--json"]
    assert app.main(["ask", *words]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert said.err == ""
    assert report["model"] == "bundled"
    first, second = report["turns"]
    assert "red circle" in first["answer"]
    assert first["visual_tokens"] == second["visual_tokens"] > 0
    assert second["prompt_tokens"] > first["prompt_tokens"] > first["visual_tokens"]
    assert first["new_tokens"] == len(first["token_ids"]) > 0
    assert first["end"] == "eos" and first["ttft_s"] > 0


def test_an_original_checkpoint_answers_as_the_official_code_did(
    capsys: pytest.CaptureFixture[str],
) -> None:
    recorded = json.loads((RECORDED / "expected.json").read_text("utf-8"))
    turns = recorded["cases"][0]["turns"]
    words = [turns[0]["question"], "--then", turns[1]["question"], "--model", str(RECORDED)]
    status = app.main(["ask", *words, "--max-new-tokens", "24", "--json"])
    told = json.loads(capsys.readouterr().out)["turns"]
    assert status == 0
    assert [turn["token_ids"] for turn in told] == [turn["ids"] for turn in turns]
    assert [turn["end"] for turn in told] == ["length", "length"]


def test_ctrl_c_while_the_model_loads_ends_with_a_whole_object() -> None:
    code = (
        "import os, signal, sys, threading\nimport app\n"
        "from backend.local.engine import LocalEngine\n"
        "press = lambda self: threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "LocalEngine.start = press\n"  # an engine that loads for ever
        "sys.exit(app.main(['ask', 'Q', '--json']))"
    )
    process = python("-c", code)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    (turn,) = json.loads(out)["turns"]
    assert (turn["answer"], turn["end"]) == ("", "stopped")


@pytest.mark.parametrize("words", [["--port", "0"], ["ask", "Q"], ["plan", "2B"]])
def test_ctrl_c_during_the_first_imports_shows_no_traceback(words: list[str]) -> None:
    code = (
        "import builtins, os, runpy, signal, sys\n"
        "real = builtins.__import__\n"
        "def press(name, *others):\n"
        "    if name == 'backend.settings': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *others)\n"
        "builtins.__import__ = press\n"
        f"sys.argv = ['app.py', *{words!r}]\n"
        "runpy.run_path('app.py', run_name='__main__')"
    )
    process = python("-c", code)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")


def test_the_page_is_up_before_the_engine_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    happened: list[str] = []
    engines: list[StartedEngine] = []

    class Engine(StartedEngine):
        def start(self) -> None:
            happened.append("engine")
            engines.append(self)
            os.kill(os.getpid(), signal.SIGTERM)

    def launch(**options: Any) -> tuple[object, str, str]:
        happened.append(f"page on {options['server_name']}")
        return None, "http://here/", ""

    server = SimpleNamespace()
    page = SimpleNamespace(
        launch=launch, close=lambda verbose: happened.append("page closed"), server=server
    )
    monkeypatch.setattr("backend.local.engine.LocalEngine", Engine)
    monkeypatch.setattr("ui.build_page", lambda *given, **more: page)
    assert app.serve(Serve(Settings(port=0))) == 0
    assert happened == ["page on 127.0.0.1", "engine", "page closed"]
    assert engines[0].closed
    assert capsys.readouterr().out.startswith("The page is on http://here/\n")


def read_until(words: str, process: "subprocess.Popen[str]") -> str:
    """The next line of the process that holds `words`."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(process.communicate()[1])


def test_the_real_page_opens_loads_and_ends_cleanly() -> None:
    with python("app.py", "--port", "0") as process:
        try:
            address = read_until("http://", process).split()[-1]
            with urllib.request.urlopen(address, timeout=60) as page:
                assert page.status == 200
            assert read_until("bundled", process).startswith("bundled answers on ")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_space_starts_the_page_without_words(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Settings] = []
    monkeypatch.setenv("SPACE_ID", "someone/chat")
    monkeypatch.setattr("app.settle_model", lambda settings: replace(settings, model="bundled"))
    monkeypatch.setattr("app.serve", lambda command: served.append(command.settings) or 0)
    assert app.main([]) == app.main(["--port", "0"]) == 0
    assert served == [Settings(host="0.0.0.0", port=7860), Settings(port=0)]


def test_where_gpus_are_lent_the_engine_borrows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = LentGpus()
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpus))
    assert isinstance(app.make_engine(Settings()), ZeroEngine)
    assert gpus.decorated == 1
    monkeypatch.delenv("SPACES_ZERO_GPU")
    assert not isinstance(app.make_engine(Settings()), ZeroEngine)


def test_a_port_in_use_is_status_2() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = python("app.py", "--port", str(other.getsockname()[1]))
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert "--port" in err
