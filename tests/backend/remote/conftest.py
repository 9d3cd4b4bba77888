"""Engines that follow scripts, and a remote engine that asks them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from backend.conversation import Attachment, Conversation, Kind, Request, Sampling, Turn
from backend.engine import State
from backend.remote.engine import RemoteEngine
from backend.remote.node import Patience
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.remote.scripted_server import ScriptedServer
from tests.waiting import wait_until

WAIT_S = 20
QUICK = Patience(first_s=WAIT_S, between_s=WAIT_S, after_end_s=0.3, watch_s=0.05)
HASTY = replace(QUICK, first_s=0.6, between_s=0.6)
Connect = Callable[..., RemoteEngine]
Serve = Callable[..., ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Make servers that end with the test."""
    servers: list[ScriptedServer] = []

    def one(**chosen: object) -> ScriptedServer:
        servers.append(ScriptedServer(**chosen))  # type: ignore[arg-type]
        return servers[-1]

    yield one
    for server in servers:
        server.kill()


@pytest.fixture
def server(serve: Serve) -> ScriptedServer:
    return serve()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make engines of addresses, ready unless told otherwise; they end with the test."""
    engines: list[RemoteEngine] = []

    def one(*urls: str, ready: bool = True, patience: Patience = QUICK, **chosen: object):
        engine = RemoteEngine(Settings(engines=urls, **chosen), patience)  # type: ignore[arg-type]
        engines.append(engine)
        engine.start()
        if ready:
            wait_until(lambda: engine.status().state is State.READY)
        return engine

    yield one
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(server: ScriptedServer, connect: Connect) -> RemoteEngine:
    return connect(server.url)


@pytest.fixture
def picture(tmp_path: Path) -> Attachment:
    Image.new("RGB", (900, 450), "teal").save(tmp_path / "a.webp")
    return Attachment(str(tmp_path / "a.webp"), Kind.IMAGE, "a.webp")


def question(
    text: str = "What is it?", *files: Attachment, session: str = "one", **sampling: object
) -> Request:
    """A request of one turn."""
    conversation = Conversation((Turn(text, files),))
    return Request(conversation, Sampling(**sampling), session)  # type: ignore[arg-type]


def ask(engine: RemoteEngine, request: Request | None = None) -> str:
    """The whole answer."""
    return "".join(engine.stream(request or question()))


def read_all(stream: AnswerStream) -> tuple[str, Exception | None]:
    """What came, and the error that ended it if one did."""
    text = ""
    try:
        for piece in stream:
            text += piece
    except Exception as error:
        return text, error
    return text, None
