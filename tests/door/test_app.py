"""The door of the app as it is started: its options, its end, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.door.conftest import HELLO, WAIT_S, as_url, picture, said, shown
from tests.faults.test_server import SERVE

ROOT = Path(__file__).parents[2]
KEY = "sk-canary-of-the-app"


@dataclass
class App:
    """The app with an engine that follows a script, in a process of its own."""

    process: "subprocess.Popen[str]"
    url: str
    folder: Path  # where it may put temporary files

    def ask(self, **headers: str) -> httpx.Response:
        body = {"model": "scripted", "messages": HELLO}
        url = f"{self.url}v1/chat/completions"
        return httpx.post(url, json=body, headers=headers, timeout=WAIT_S)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[App]:
    words = json.dumps(["--port", "0", *options])
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE.replace('["--port", "0"]', words)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("The page is on "), process.communicate()[1]
    try:
        yield App(process, first.split()[-1], folder)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    return place


def test_the_options_reach_the_door_and_no_key_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEY)
    with running(folder, "--verbose", "--door-key-file", str(tmp_path / "keys")) as app:
        assert app.ask().status_code == 401
        assert app.ask(authorization=f"Bearer {KEY}").status_code == 200
        for path in ("", "config", "ready", "health", "gradio_api/info"):
            assert KEY not in httpx.get(app.url + path).text
        app.process.send_signal(signal.SIGTERM)
        out, error = app.process.communicate(timeout=WAIT_S)
        assert KEY not in out + error and app.process.returncode == 0


def test_sigterm_while_an_answer_streams_ends_it_in_words_and_leaves_no_file(folder: Path) -> None:
    parts = [{"type": "text", "text": "An endless story."}, shown(as_url(picture()))]
    body = {"model": "scripted", "messages": said(parts), "stream": True}
    with running(folder) as app:
        url = f"{app.url}v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=WAIT_S) as answer:
            lines = answer.iter_lines()
            while "word" not in next(lines):
                pass
            assert [path for path in folder.rglob("*") if path.is_file()]
            app.process.send_signal(signal.SIGTERM)
            left = "\n".join(lines)
        _, error = app.process.communicate(timeout=WAIT_S)
        assert "ended this answer" in left and "[DONE]" not in left
        assert (app.process.returncode, error) == (0, "")
        assert not list(folder.iterdir())
