"""A browser tab as the server sees it: the requests that Gradio's own client makes, and no more.

A heartbeat tells that the tab is open. A question is three events in a row: `ask` draws it,
`follow` is joined to the queue and streams the answer over a connection of its own, `settle` draws
the page at rest. Closing the tab cuts every connection, as a browser does.
"""

import asyncio
import http.client
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from backend.engine import Engine
from backend.prompt.compose import Composer
from backend.settings import Settings
from tests.waiting import free_port
from ui import build_page, launch_options
from ui.sessions import Sessions

PATIENCE_S = 60.0
API = "/gradio_api"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the server about a running event, and when it came (`perf_counter`)."""

    kind: str
    at: float
    output: Any = field(repr=False, default=None)


class Tab:
    """One open tab. It asks one question at a time."""

    def __init__(self, port: int) -> None:
        self.session = secrets.token_hex(8)
        self.messages: list[Message] = []
        self._port = port
        self._config = self._get("/config")
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._listen(f"{API}/heartbeat/{self.session}", lambda line: None)

    def ask(self, question: str) -> None:
        """Send a question with the settings as they stand, and follow its answer."""
        event = self._event("ask")
        values = {part["id"]: part["props"].get("value") for part in self._config["components"]}
        self._call("ask", [question, *(values[number] for number in event["inputs"][1:])])
        self.messages = []
        self._post(f"{API}/queue/join", self._body("follow", []))
        self._listen(f"{API}/queue/data?session_hash={self.session}", self._hear)

    def stop(self) -> None:
        """Press Stop; returns when the server has answered."""
        self._call("stop", [])

    def wait_until_free(self) -> float:
        """When the answer ended and the page was drawn at rest (`perf_counter`)."""
        self.wait_for("process_completed")
        self._call("settle", [])
        return time.perf_counter()

    def wait_for(self, kind: str, count: int = 1) -> Message:
        """The message of this kind, or the last of so many."""

        def found() -> list[Message]:
            return [message for message in self.messages if message.kind == kind]

        with self._changed:
            if not self._changed.wait_for(lambda: len(found()) >= count, PATIENCE_S):
                raise TimeoutError(f"{len(found())} messages {kind} came, not {count}")
            return found()[count - 1]

    def close(self) -> None:
        """Close the tab: every connection is cut."""
        for connection in self._sockets:
            with suppress(OSError):  # the server was done with it
                connection.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def _call(self, name: str, data: list[Any]) -> None:
        self._post(f"{API}/run/predict", self._body(name, data))

    def _body(self, name: str, data: list[Any]) -> dict[str, Any]:
        return {"data": data, "fn_index": self._event(name)["id"], "session_hash": self.session}

    def _event(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            event for event in self._config["dependencies"] if event["api_name"] == name
        )
        return found

    def _hear(self, line: bytes) -> None:
        message = json.loads(line)
        with self._changed:
            self.messages.append(
                Message(message["msg"], time.perf_counter(), message.get("output"))
            )
            self._changed.notify_all()

    def _listen(self, path: str, hear: Callable[[bytes], None]) -> None:
        connection = self._connect()
        connection.request("GET", path)
        self._sockets.append(connection.sock)
        response = connection.getresponse()

        def read() -> None:
            # An error here is the tab being closed.
            with closing(connection), closing(response), suppress(OSError):
                for line in iter(response.readline, b""):
                    if line.startswith(b"data: {"):
                        hear(line[len(b"data: ") :])

        threading.Thread(target=read, daemon=True).start()

    def _get(self, path: str) -> Any:
        return self._exchange("GET", path, None)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._exchange("POST", path, json.dumps(body))

    def _exchange(self, method: str, path: str, body: str | None) -> Any:
        headers = {"content-type": "application/json"}
        with closing(self._connect()) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path} answered {response.status}: {answer[:200]!r}")
        return json.loads(answer)

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)


@contextmanager
def serve(engine: Engine, composer: Composer | None, sessions: Sessions) -> Iterator[int]:
    """The product's page, served as the product serves it; gives the port."""
    settings = Settings(port=free_port())
    with launched(lambda: build_page(engine, lambda: composer, settings, sessions), settings):
        yield settings.port


@contextmanager
def launched(build: Callable[[], gr.Blocks], settings: Settings) -> Iterator[None]:
    """Any page, served at the port of the settings."""

    async def launch() -> gr.Blocks:
        page = build()
        page.launch(prevent_thread_lock=True, **launch_options(settings))
        return page

    # Gradio makes event loops where none runs, and never closes them.
    page = asyncio.run(launch())
    try:
        yield
    finally:
        page.close(verbose=False)
