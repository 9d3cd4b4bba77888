"""A real HTTP server in a thread that follows scripts: what engines say, and how they fail.

Its answers are chunked, so that one that ends and one that breaks off are told apart.
"""

import json
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TRANSCRIPTS = Path(__file__).parent / "transcripts"
STREAM = "text/event-stream"
JSON = "application/json"
LOOK_S = 0.02


@dataclass(frozen=True)
class Cut:
    """Break the connection off, with a reset if `hard`."""

    hard: bool = False


Step = bytes | float | Cut | threading.Event


@dataclass(frozen=True)
class Reply:
    """An answer: `steps` are bytes to send, seconds to wait, an event to wait for, or a cut."""

    steps: Sequence[Step] = ()
    status: int = 200
    kind: str = STREAM
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any] | None = None


def event(body: object) -> bytes:
    """One event of a stream."""
    return f"data: {body if isinstance(body, str) else json.dumps(body)}\n\n".encode()


def word(text: str, reason: str | None = None, **more: object) -> bytes:
    """An event with a piece of the answer."""
    delta = {"content": text} if text else {}
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more})


def usage(prompt: int, new: int, cached: int = 0) -> bytes:
    """The event with the counts."""
    counts = {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}
    details = {"prompt_tokens_details": {"cached_tokens": cached}}
    return event({"choices": [], "usage": {**counts, **details}})


DONE = event("[DONE]")
ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
ANSWER = Reply((ROLE, word("An "), word("answer."), word("", "stop"), usage(60, 3, 40), DONE))


def refusal(status: int, body: object, kind: str = JSON, **headers: str) -> Reply:
    """An error's answer."""
    content = body if isinstance(body, str) else json.dumps(body)
    told = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Reply((content.encode(),) if content else (), status, kind, told)


def transcript(engine: str, name: str) -> Reply:
    """What a real engine sent."""
    text = (TRANSCRIPTS / engine / f"{name}.txt").read_bytes().decode("utf-8")
    head, _, body = text.partition("\n\n")
    status, _, kind = head.partition(" ")
    return Reply((body.encode(),), int(status), kind)


def models(owner: str = "vllm", model: str = "tiny", **more: object) -> dict[str, Any]:
    """A list of models."""
    return {"object": "list", "data": [{"id": model, "owned_by": owner, **more}]}


@dataclass
class ScriptedServer:
    """The server. `models` answers every look; `scripts` answer questions in order, then `usual`.

    `left` counts clients that went away before the end of an answer, `met` connections.
    """

    models: Reply = field(default_factory=lambda: refusal(200, models()))
    usual: Reply = ANSWER
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    looks: list[Asked] = field(default_factory=list)
    scripts: "deque[Reply]" = field(default_factory=deque)
    left: int = 0
    met: int = 0

    def __post_init__(self) -> None:
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listen, on the same port as before."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server._sockets.add(self.connection)
                server.met += 1

            def do_GET(self) -> None:
                server.looks.append(Asked(self.path, dict(self.headers)))
                server._follow(self, server.models)

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                with server._lock:
                    server.asked.append(Asked(self.path, dict(self.headers), json.loads(content)))
                    reply = server.scripts.popleft() if server.scripts else server.usual
                server._follow(self, reply)

            def log_message(self, *args: object) -> None:
                """Be quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away is no error of ours."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK_S,), daemon=True
        )
        self._thread.start()

    def kill(self) -> None:
        """End at once, as a process that is killed: every connection breaks."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in list(self._sockets):
            reset(connection)
        self._sockets.clear()

    def _follow(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        try:
            handler.send_response(reply.status)
            handler.send_header("Content-Type", reply.kind)
            handler.send_header("Transfer-Encoding", "chunked")
            for name, value in reply.headers:
                handler.send_header(name, value)
            handler.end_headers()
            for step in reply.steps:
                if not self._do(handler, step):
                    return
            handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.left += 1
            handler.close_connection = True

    def _do(self, handler: BaseHTTPRequestHandler, step: Step) -> bool:
        """One step; whether another may follow."""
        connection = handler.connection
        if isinstance(step, Cut):
            handler.wfile.flush()
            handler.close_connection = True
            if step.hard:
                reset(connection)
            else:
                connection.shutdown(socket.SHUT_RDWR)
            return False
        if isinstance(step, bytes):
            handler.wfile.write(f"{len(step):x}\r\n".encode() + step + b"\r\n")
            handler.wfile.flush()
            return True
        until = time.monotonic() + (step if isinstance(step, float) else 60)
        while time.monotonic() < until:
            if isinstance(step, threading.Event) and step.is_set():
                break
            readable, _, _ = select.select([connection], [], [], LOOK_S)
            if readable and not connection.recv(1, socket.MSG_PEEK):
                raise ConnectionResetError
        return True


def reset(connection: socket.socket) -> None:
    """Close with a reset instead of an end."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()
