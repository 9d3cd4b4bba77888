"""Changing the model of the real engine: the old network is gone before the new one is loaded."""

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backend.conversation import Answer, Request
from backend.engine import Stage, State
from backend.errors import ModelChanged, TooLong
from backend.local.engine import LocalEngine, load_checkpoint
from backend.prompt.compose import Composer
from backend.settings import Settings
from backend.switching import SwitchingEngine
from tests.backend.checkpoint.folders import ORIGINALS
from tests.backend.local.stand_ins import ask
from tests.waiting import wait_until

WAIT_S = 120  # a busy machine takes half a minute to import torch
BUNDLED = Settings()
OTHER = Settings(model=str(ORIGINALS[1]))
LONG = "What can you do?"  # the bundled model has more than twenty tokens to say


class Memory:
    """What became of every network that was loaded."""

    def __init__(self) -> None:
        self.networks: list[weakref.ref[Any]] = []
        self.alive_when_loading: list[int] = []
        self.hold = threading.Event()

    @property
    def alive(self) -> int:
        return sum(network() is not None for network in self.networks)

    def load(self, settings: Settings, composer: Composer, report: Any) -> Any:
        gc.collect()
        self.alive_when_loading.append(self.alive)
        model: Any = load_checkpoint(settings, composer, report)
        self.networks.append(weakref.ref(model._network))
        return model

    def make(self, settings: Settings) -> LocalEngine:
        return LocalEngine(settings, self.load)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def engine(memory: Memory) -> Iterator[SwitchingEngine[Composer]]:
    engine = SwitchingEngine(BUNDLED, memory.make)
    engine.start()
    ready(engine, "bundled")
    yield engine
    engine.close()
    gc.collect()
    assert memory.alive == 0


def ready(engine: SwitchingEngine[Composer], model: str) -> None:
    wait_until(lambda: engine.status().state is not State.LOADING)
    assert (engine.status().model, engine.status().state) == (model, State.READY)


def answer(engine: SwitchingEngine[Composer], request: Request) -> str:
    return "".join(engine.stream(request))


def test_the_old_network_is_gone_before_the_new_one_is_loaded_and_back(engine, memory):
    question = ask("How many shapes are there?", max_new_tokens=12)
    first = answer(engine, question)
    for settings, name in ((OTHER, "qknorm-112"), (BUNDLED, "bundled"), (OTHER, "qknorm-112")):
        engine.choose(settings)
        ready(engine, name)
        assert engine.composer.facts.name == name
        again = answer(engine, question)
        assert (again == first) is (settings is BUNDLED)
    assert memory.alive_when_loading == [0, 0, 0, 0]


def test_what_a_gpu_kept_is_given_back_once_the_network_is_gone(engine, memory, monkeypatch):
    alive: list[int] = []
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: alive.append(memory.alive))
    engine.choose(OTHER)
    ready(engine, "qknorm-112")
    assert alive[-1] == 0 and memory.alive == 1
    monkeypatch.undo()


def test_an_old_stream_that_somebody_holds_keeps_no_network_alive(engine, memory):
    held = engine.stream(ask(LONG))
    wait_until(lambda: held.progress.stage is Stage.WRITING)
    waiting = engine.stream(ask("And then?", session="another"))
    engine.choose(OTHER)
    ready(engine, "qknorm-112")
    assert memory.alive_when_loading == [0, 0]
    for stream in (held, waiting):
        with pytest.raises(ModelChanged, match="The model was changed to qknorm-112"):
            list(stream)
    assert held.token_ids and not waiting.token_ids


def test_a_model_still_loading_is_left_within_a_weight_and_never_serves(memory):
    reached = threading.Event()

    def load(settings: Settings, composer: Composer, report: Any) -> Any:
        def slow(share: float, doing: str = "placing") -> None:
            report(share, doing)
            if settings == OTHER and share > 0.3:
                reached.set()
                wait_until(lambda: engine.settings == BUNDLED)

        return memory.load(settings, composer, slow)

    engine: SwitchingEngine[Composer] = SwitchingEngine(
        OTHER, lambda settings: LocalEngine(settings, load)
    )
    engine.start()
    assert reached.wait(WAIT_S)
    stream = engine.stream(ask("Hello"))
    engine.choose(BUNDLED)
    ready(engine, "bundled")
    with pytest.raises(ModelChanged):
        list(stream)
    assert len(memory.networks) == 1 and memory.alive_when_loading == [0, 0]
    assert answer(engine, ask("Hello"))
    engine.close()


def test_a_choice_that_cannot_be_had_fails_in_words_and_the_old_one_can_be_chosen_again(
    engine, memory, monkeypatch, tmp_path
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    engine.choose(Settings(model="2B"))
    wait_until(lambda: engine.status().state is State.FAILED)
    told = engine.status()
    assert told.model == "InternVL3-2B-hf" and engine.composer is None
    assert "InternVL3-2B-hf is not on this machine and the hub cannot be reached" in told.reason
    engine.choose(BUNDLED)
    ready(engine, "bundled")
    assert answer(engine, ask("Hello"))


def test_a_chat_goes_on_with_the_other_model_by_its_text_or_is_told_to_be_too_long(engine, memory):
    first = ask("How many shapes are there?", max_new_tokens=12)
    stream = engine.stream(first)
    text = "".join(stream)
    given = first.conversation.answered(Answer(text, stream.token_ids, stream.statistics))
    for settings in (OTHER, replace(OTHER, context=256)):
        engine.choose(settings)
        ready(engine, "qknorm-112")
        again = given.asked(ask("And now?").conversation.turns[0])
        prompt = engine.composer.compose(again)
        assert f"assistant\n{text}<|im_end|>" in prompt.text
        assert answer(engine, replace(first, conversation=again))
    long = given.asked(ask("Tell me more. " * 200).conversation.turns[0])
    with pytest.raises(TooLong, match="256"):
        answer(engine, replace(first, conversation=long))
    assert engine.status().state is State.READY
