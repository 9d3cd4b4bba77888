"""A stand-in for the hub on this machine, which its own client takes for the real one.

Serves one repository by the few routes that huggingface_hub 2.4 asks when it fetches a snapshot,
slowly enough to be watched, and stands still when a test wants it to.
"""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 64 * 1024


class ScriptedHub:
    """What the hub has, and a gate in the middle of each large file."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.gate = threading.Event()
        self.gate.set()
        self.url = ""
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()  # as they came with what was asked

    def etag(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()


def handler_of(hub: ScriptedHub) -> type[http.server.BaseHTTPRequestHandler]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            hub.asked.append(f"{self.command} {path}")
            hub.tokens.add(self.headers["Authorization"])
            if "/resolve/" in path:
                self.send_file(path.rsplit("/", 1)[1], body)
            elif "/tree/" in path:
                self.send_json(
                    [
                        {"type": "file", "path": name, "size": len(data), "oid": hub.etag(name)}
                        for name, data in hub.files.items()
                    ]
                )
            else:
                siblings = [{"rfilename": name} for name in hub.files]
                self.send_json({"id": "someone/model", "sha": COMMIT, "siblings": siblings})

        def send_json(self, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def send_file(self, name: str, body: bool) -> None:
            data = hub.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hub.etag(name)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if not body:
                return
            for start in range(0, len(data), PIECE):
                if start >= len(data) // 2 > PIECE:
                    hub.gate.wait(20)
                try:
                    self.wfile.write(data[start : start + PIECE])
                except OSError:  # the client left
                    return

        def log_message(self, *_: object) -> None:
            pass

    return Answer


def take_for_the_hub(hub: ScriptedHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client ask this hub, in pieces that can be watched, and keep files in `cache`."""
    address = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_XET_CACHE", str(cache.with_name("xet")))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", PIECE)


@contextmanager
def serve(hub: ScriptedHub) -> Iterator[ScriptedHub]:
    """The hub on a free port of this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(hub)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            hub.gate.set()
            server.shutdown()
            thread.join()
