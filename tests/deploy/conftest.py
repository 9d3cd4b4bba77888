"""The page with an engine that follows a script, behind a real nginx under a sub-path with TLS."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
import pytest

from backend.prompt.compose import Composer
from backend.settings import Settings
from door import open_door
from tests.deploy.proxy import Proxy, running_proxy
from tests.fakes import FakeEngine
from tests.ui.conftest import chromium, composer, files  # noqa: F401  (fixtures of the page)
from tests.waiting import free_port
from ui import build_page, launch_options

MOST_UPLOAD = 300_000


@dataclass(frozen=True)
class Behind:
    """A page and the proxy before it."""

    proxy: Proxy
    engine: FakeEngine
    port: int


@pytest.fixture(scope="module")
def page(composer: Composer) -> Iterator[tuple[FakeEngine, int]]:  # noqa: F811
    """The page with its door, told that it is served under /chat."""
    engine, settings = FakeEngine("fake model"), Settings(port=free_port(), root_path="/chat")
    door = open_door(engine, lambda: composer, settings)

    async def launch() -> gr.Blocks:
        blocks = build_page(door.engine, lambda: composer, settings)
        blocks.launch(prevent_thread_lock=True, **launch_options(settings, door.around))
        return blocks

    blocks = asyncio.run(launch())  # Gradio makes event loops where none runs
    yield engine, settings.port
    engine.close()
    blocks.close(verbose=False)
    door.close()


@pytest.fixture(scope="module")
def behind(
    page: tuple[FakeEngine, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    engine, port = page
    folder = tmp_path_factory.mktemp("nginx")
    with running_proxy(folder, port, most_upload=MOST_UPLOAD) as proxy:
        yield Behind(proxy, engine, port)
