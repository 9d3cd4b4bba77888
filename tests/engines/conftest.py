"""Real engines and real files for them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from backend.engine import State
from backend.remote.engine import RemoteEngine
from backend.settings import Settings
from tests.engines.running import Llama, running_llama
from tests.engines.serve_transformers import running_transformers
from tests.waiting import wait_until

EXAMPLES = Path(__file__).parent.parent.parent / "assets" / "examples"
Connect = Callable[..., RemoteEngine]


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    """llama.cpp with the bundled checkpoint, under the name by which it is found here."""
    with running_llama(tmp_path_factory.mktemp("llama"), "bundled") as engine:
        yield engine


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    """llama.cpp with a model that never ends an answer, known here by no name."""
    folder = tmp_path_factory.mktemp("endless")
    with running_llama(folder, "endless", context=32_768, slots=1, endless=True) as engine:
        yield engine


@pytest.fixture(scope="session")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `transformers serve` with the bundled checkpoint."""
    with running_transformers(tmp_path_factory.mktemp("transformers")) as url:
        yield url


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make an engine of addresses, ready to be asked; ended with the test."""
    with ExitStack() as opened:

        def connected(*urls: str, **chosen: object) -> RemoteEngine:
            engine = RemoteEngine(Settings(engines=urls, **chosen))  # type: ignore[arg-type]
            opened.callback(engine.close)
            engine.start()
            wait_until(lambda: engine.status().state is State.READY, "the engine is not found")
            return engine

        yield connected
