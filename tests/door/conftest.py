"""The door on a port of this machine, around a page that says it is the page."""

import asyncio
import base64
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from openai import OpenAI
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.engine import Engine
from backend.prompt.compose import Composer, open_composer
from backend.settings import Settings
from door.opening import Door, open_door
from door.routes import Desk
from tests.fakes import FakeEngine

WAIT_S = 30  # far more than anything takes
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass
class Served:
    """The door, where it is, and the engine behind it."""

    url: str
    engine: Any
    door: Door
    client: OpenAI  # OpenAI's own, which tries nothing twice

    def ask(self, **fields: Any) -> httpx.Response:
        """Post a request, a plain greeting but for `fields`."""
        body = {"model": self.engine.status().model, "messages": HELLO} | fields
        return self.post(json=body)

    def post(self, **how: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/chat/completions", timeout=WAIT_S, **how)

    def get(self, path: str, **how: Any) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=WAIT_S, **how)


async def _page(request: Any) -> PlainTextResponse:
    return PlainTextResponse("This is the page.")


@contextmanager
def running(app: Any) -> Iterator[str]:
    """An ASGI application on a free port; where it is."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),))
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving(
    engine: Engine,
    composer: Callable[[], Composer | None] = lambda: None,
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    change: Callable[[Desk], None] = lambda desk: None,
) -> Iterator[Served]:
    """The door to `engine` around a page."""
    door = open_door(engine, composer, settings)
    change(door.desk)
    page = Starlette(routes=[Route("/{path:path}", _page, methods=["GET", "POST"])])
    around = door.around
    try:
        with running(around.cls(page, *around.args, **around.kwargs)) as url:
            base = f"{url}/v1"
            with OpenAI(api_key="none", base_url=base, max_retries=0, timeout=WAIT_S) as client:
                yield Served(url, engine, door, client)
    finally:
        engine.close()
        door.close()


@pytest.fixture(scope="session")
def composer() -> Composer:
    return open_composer(BUNDLED_FOLDER, Settings())


@pytest.fixture
def served(composer: Composer) -> Iterator[Served]:
    with serving(FakeEngine(), lambda: composer) as served:
        yield served


def picture(colour: str = "red", form: str = "PNG", size: tuple[int, int] = (96, 64)) -> bytes:
    """A circle."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((20, 10, 60, 50), colour)
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def as_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def shown(url: str, **choices: Any) -> dict[str, Any]:
    """A part with a picture."""
    return {"type": "image_url", "image_url": {"url": url, **choices}}


def words(text: str) -> dict[str, Any]:
    """A part with text."""
    return {"type": "text", "text": text}


def said(*content: Any) -> list[dict[str, Any]]:
    """Messages of user and assistant in turn."""
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": one} for place, one in enumerate(content)]


def files_in(door: Door) -> list[Path]:
    """Files of requests that lie on the disk now."""
    return [path for path in Path(door.desk.store._folder.name).rglob("*") if path.is_file()]
