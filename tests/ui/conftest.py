"""The page's parts with an engine that follows a script, and the page itself on a free port."""

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import gradio as gr
import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright

from backend.conversation import Attachment
from backend.media.recognise import attach
from backend.prompt.compose import Composer, open_composer
from backend.settings import Settings
from tests.fakes import FakeEngine
from ui import build_page, launch_options
from ui.handlers import ChatHandlers
from ui.sessions import Session, Sessions
from ui.view import NAMES

ROOT = Path(__file__).parent.parent.parent
WAIT_MS = 20_000  # far more than anything takes: these tests judge what happens, not how fast


@pytest.fixture(scope="session")
def composer() -> Composer:
    return open_composer(ROOT / "assets" / "checkpoint", Settings())


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """two pictures (wide.png, tall.png), clip.mp4 of 2 s, and words.png, which is text."""
    folder = tmp_path_factory.mktemp("files")
    for name, size in (("wide.png", (320, 180)), ("tall.png", (150, 300))):
        picture = Image.new("RGB", size, "white")
        ImageDraw.Draw(picture).ellipse((20, 20, 110, 110), "red")
        picture.save(folder / name)
    write_clip(folder / "clip.mp4")
    (folder / "words.png").write_text("This is no picture.")
    return folder


def write_clip(path: Path, frames: int = 20, rate: int = 10) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(frames):
            pixels = np.full((96, 160, 3), 12 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@dataclass
class Desk:
    """The chat's handlers without a page or a browser."""

    composer: Composer
    engine: FakeEngine = field(default_factory=FakeEngine)
    sessions: Sessions = field(default_factory=Sessions)

    def __post_init__(self) -> None:
        self.chat = ChatHandlers(self.engine, lambda: self.composer, self.sessions, lambda: ())

    def session(self, name: str = "one") -> Session:
        return self.sessions.of(name)

    def browser(self, name: str = "one") -> gr.Request:
        return gr.Request(session_hash=name)

    def ask(self, question: str, name: str = "one", **settings: Any) -> dict[str, Any]:
        """Press Send; what it changed."""
        return changed(self.chat.ask(question, self.browser(name), *panel(**settings)))

    def follow(self, name: str = "one") -> list[list[Any]]:
        """Everything that the running answer streams, until its end."""

        async def read() -> list[list[Any]]:
            return [values async for values in self.chat.follow(self.browser(name))]

        return asyncio.run(read())

    def settle(self, name: str = "one") -> dict[str, Any]:
        return changed(self.chat.settle(self.browser(name)))

    def converse(self, question: str, name: str = "one", **settings: Any) -> dict[str, Any]:
        """Ask, follow and settle, as the page does; what the page shows at the end."""
        self.ask(question, name, **settings)
        self.follow(name)
        return self.settle(name)

    def drop(self, path: Path, name: str = "one") -> Attachment:
        attachment = attach(str(path))
        self.session(name).add(attachment.name, attachment)
        return attachment


@pytest.fixture
def desk(composer: Composer) -> Desk:
    return Desk(composer)


PANEL: dict[str, Any] = {
    "system": "",
    "temperature": 0,
    "top_p": 1,
    "top_k": 0,
    "penalty": 1,
    "max_new": 1024,
    "seed": "",
    "max_tiles": 0,
    "layout": "separate",
}


def panel(**settings: Any) -> list[Any]:
    """The settings panel as it stands on a fresh page, but for `settings`."""
    return list((PANEL | settings).values())


def changed(values: list[Any]) -> dict[str, Any]:
    """What a view changes, by the name of the part."""
    return {name: value for name, value in zip(NAMES, values, strict=True) if value != gr.skip()}


def texts(history: list[dict[str, Any]]) -> list[str]:
    """Every text and piece of HTML in a chat, in order."""
    return [part.get("text", part.get("value")) for entry in history for part in entry["content"]]


@dataclass
class Served:
    """The page on a port of this machine."""

    url: str
    engine: FakeEngine
    sessions: Sessions
    page: gr.Blocks


@pytest.fixture(scope="module")
def served(composer: Composer) -> Iterator[Served]:
    engine, sessions = FakeEngine("fake model"), Sessions()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Settings(port=port)

    async def launch() -> tuple[gr.Blocks, str]:
        page = build_page(engine, lambda: composer, settings, sessions)
        _, url, _ = page.launch(prevent_thread_lock=True, **launch_options(settings))
        return page, url

    # Gradio makes event loops where none runs, and never closes them.
    page, url = asyncio.run(launch())
    yield Served(url, engine, sessions, page)
    engine.close()
    page.close(verbose=False)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    arguments = ["--no-sandbox", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(filter(None, found), None), args=arguments
        )
        yield browser
        browser.close()


@pytest.fixture
def open_tab(chromium: Browser, served: Served) -> Iterator[Callable[..., Page]]:
    """Open the page in a browser of its own, ready to be used."""
    contexts = []

    def open_one(query: str = "", **options: Any) -> Page:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 860}} | options))
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        tab = context.new_page()
        tab.goto(served.url + query)
        tab.locator(".example").first.wait_for()  # the page has spoken with the server
        return tab

    yield open_one
    for context in contexts:
        context.close()
