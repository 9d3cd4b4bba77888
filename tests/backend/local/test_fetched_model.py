"""A model that has to be fetched: its progress in bytes, and leaving it in the middle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.engine import State
from backend.local.engine import LocalEngine
from backend.prompt.compose import Composer
from backend.settings import Settings
from backend.switching import SwitchingEngine
from tests.backend.checkpoint.scripted_hub import ScriptedHub, serve, take_for_the_hub
from tests.backend.local.stand_ins import ask
from tests.waiting import wait_until

FETCHED = Settings(model="someone/model")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedHub]:
    with serve(ScriptedHub(BUNDLED_FOLDER)) as hub:
        take_for_the_hub(hub, tmp_path / "cache", monkeypatch)
        hub.gate.clear()  # in the middle of the weights
        yield hub


@pytest.fixture
def engine(hub: ScriptedHub) -> Iterator[SwitchingEngine[Composer]]:
    engine = SwitchingEngine(FETCHED, LocalEngine)
    engine.start()
    yield engine
    hub.gate.set()
    engine.close()


def test_bytes_are_told_with_the_share_and_then_it_answers(engine, hub):
    wait_until(lambda: engine.status().doing.startswith("downloading"))
    wait_until(lambda: engine.status().share > 0.3)
    told = engine.status()
    assert told.state is State.LOADING and told.model == "model"
    assert told.doing.endswith(" of 11 MB") and told.share < 0.9
    assert engine.composer.facts.name == "model"  # budgets are there before the weights
    hub.gate.set()
    wait_until(lambda: engine.status().state is not State.LOADING)
    assert (engine.status().state, engine.status().doing) == (State.READY, "")
    assert "".join(engine.stream(ask("Hello", max_new_tokens=4)))


def test_a_download_is_left_at_once_for_another_model(engine, hub):
    wait_until(lambda: engine.status().share > 0.3)
    engine.choose(Settings())
    wait_until(lambda: engine.status().state is State.READY)
    assert engine.status().model == "bundled" and not hub.gate.is_set()
