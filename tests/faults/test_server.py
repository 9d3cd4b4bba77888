"""The app in a process of its own, attacked over HTTP and ended while it streams.

Its engine follows a script, so that no model is loaded; everything else is the app as it is.
"""

import http.server
import json
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.terminal.media import make_picture

ROOT = Path(__file__).parents[2]
WAIT_S = 60
PANEL = ["", 0, 1, 0, 1, 64, "", 0, "separate"]
SERVE = """
import sys
import app
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.prompt.compose import open_composer
from tests.fakes import FakeEngine

class Engine(FakeEngine):
    def __init__(self, settings):
        super().__init__("scripted")
        self.composer = open_composer(BUNDLED_FOLDER, settings)

    def start(self):
        pass

    def stream(self, request):
        endless = "endless" in request.conversation.turns[-1].question
        self.enqueue(["word ", 0.02] * 9999 if endless else ["An answer."])
        return super().stream(request)

import backend.local.engine
backend.local.engine.LocalEngine = Engine
app.leave(app.main(["--port", "0"]))
"""


@dataclass
class Server:
    """The running app, where it is, and where its uploads lie."""

    process: "subprocess.Popen[str]"
    url: str
    uploads: Path

    def event(self, name: str, session: str, *data: Any, **more: Any) -> httpx.Response:
        body = {"data": list(data), "session_hash": session, **more}
        return httpx.post(f"{self.url}gradio_api/run/{name}", json=body, timeout=WAIT_S)

    def follow(self, session: str) -> Iterator[dict[str, Any]]:
        """What the page hears while an answer is written."""
        names = [entry["api_name"] for entry in self.config["dependencies"]]
        body = {"data": [], "fn_index": names.index("follow"), "session_hash": session}
        httpx.post(f"{self.url}gradio_api/queue/join", json=body).raise_for_status()
        heard = {"session_hash": session}
        with httpx.stream("GET", f"{self.url}gradio_api/queue/data", params=heard) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line.removeprefix("data:"))
                    yield message
                    if message["msg"] == "process_completed":
                        return

    @property
    def config(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.url}config").json())

    def still_answers(self) -> bool:
        """Whether somebody who did nothing wrong is answered."""
        session = uuid.uuid4().hex
        self.event("ask", session, "What is here?", *PANEL).raise_for_status()
        list(self.follow(session))
        return "An answer." in self.event("settle", session).text


def start(uploads: Path) -> Server:
    pipe = subprocess.PIPE
    environment = {"PATH": "/usr/bin:/bin", "GRADIO_TEMP_DIR": str(uploads)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=ROOT,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("The page is on "), process.communicate()[1]
    return Server(process, first.split()[-1], uploads)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(tmp_path_factory.mktemp("uploads"))
    yield server
    server.process.kill()
    server.process.communicate()


def file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A web server of this machine: its address, and what was asked of it."""
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}/a.png", asked
        web.shutdown()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("add", lambda address: [[file(address)]]),
        ("ask", lambda address: [file(address), *PANEL]),
        ("ask", lambda address: ["?", [{"deep": file(address)}], *PANEL[1:]]),
        ("weigh", lambda address: [file(address), *PANEL]),
    ],
)
def test_no_input_makes_the_server_fetch_an_address(
    name: str, data: Any, server: Server, elsewhere: tuple[str, list[str]]
) -> None:
    address, asked = elsewhere
    for where in (address, "http://100.100.100.200/latest", "https://example.invalid/a.png"):
        answer = server.event(name, "curious", *data(where))
        assert "Only uploaded files" in answer.json()["error"]
    assert asked == []


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "app.py", "../app.py", "file:///etc/passwd", "/proc/self/environ", "", "\0"],
)
def test_files_that_were_not_uploaded_are_not_taken(path: str, server: Server) -> None:
    answer = server.event("add", "curious", [file(path)])
    assert answer.status_code == 500 or "Will not be sent" in answer.text
    assert "root:" not in answer.text and str(ROOT) not in answer.text


@pytest.mark.parametrize(
    "data", [[], ["?"], [None] * 10, [[]] * 10, [{}] * 10, ["?", *PANEL[:-1], "neither"]]
)
def test_odd_data_is_refused_and_the_next_question_is_answered(
    data: list[Any], server: Server
) -> None:
    answer = server.event("ask", "odd", *data)
    assert answer.status_code == 500
    said = answer.json()["error"]
    assert "not what the page sends" in said or "not in the list of choices" in said
    assert not any(leak in answer.text for leak in ("Traceback", str(ROOT), "site-packages"))
    assert server.still_answers()


@pytest.mark.parametrize(("tokens", "said"), [(0, "0"), (10**9, "1,000,000,000")])
def test_a_length_out_of_range_is_named_on_the_page_too(
    tokens: int, said: str, server: Server
) -> None:
    panel = ["", 0, 1, 0, 1, tokens, "", 0, "separate"]
    answer = server.event("ask", "greedy", "?", *panel)
    assert f"max new tokens is {said}." in answer.text and "Choose a value" in answer.text


def test_sigterm_while_an_answer_streams_ends_the_app_and_leaves_no_file(tmp_path: Path) -> None:
    server = start(tmp_path / "uploads")
    sent = {"files": ("a.png", make_picture(tmp_path, 3).read_bytes())}
    (uploaded,) = httpx.post(f"{server.url}gradio_api/upload", files=sent).json()
    server.event("add", "one", [file(uploaded)]).raise_for_status()
    server.event("ask", "one", "An endless story.", *PANEL).raise_for_status()
    heard = server.follow("one")
    while "word" not in str(next(heard)):
        pass
    assert any(path.is_file() for path in server.uploads.rglob("*"))
    server.process.send_signal(signal.SIGTERM)
    _, error = server.process.communicate(timeout=WAIT_S)
    assert (server.process.returncode, error) == (0, "")
    assert not list(server.uploads.iterdir())
