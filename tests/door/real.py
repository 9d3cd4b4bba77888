"""The bundled checkpoint behind a door."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from backend.engine import State
from backend.local.engine import LocalEngine
from backend.settings import Settings
from tests.door.conftest import Served, picture, serving


@pytest.fixture(scope="module")
def bundled() -> Iterator[Served]:
    settings = Settings(allow_picture_urls=True)
    engine = LocalEngine(settings)
    engine.start()

    def change(desk: Any) -> None:
        desk.fetcher.fetch = lambda url, name: picture()

    with serving(engine, lambda: engine.composer, settings, change) as served:
        while engine.status().state is State.LOADING:
            time.sleep(0.05)
        yield served
