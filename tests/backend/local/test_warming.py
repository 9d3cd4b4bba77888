"""The first person does not pay for what a first pass costs: a tiny question went before."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AttentionInterface

from backend.errors import EngineFailed, OutOfMemory
from backend.local import load
from backend.local.load import load_checkpoint
from backend.local.model import LocalModel
from backend.local.preparation import Prepared
from backend.local.together.pages import NAME
from backend.local.together.size import Size
from backend.local.warming import make_question, warm_up, warm_up_compiled
from backend.prompt.compose import Composer
from backend.settings import Settings
from tests.backend.local.memory.tiny import tiny_composer, tiny_network
from tests.backend.local.stand_ins import instant_composer


@pytest.fixture(scope="module")
def composer() -> Composer:
    return tiny_composer()


def passes_of(network: Any) -> list[str]:
    """What the network computes from now on, in order."""
    seen: list[str] = []
    for name, module in (
        ("vision", network.model.vision_tower),
        ("text", network.model.language_model),
        ("head", network.lm_head),
    ):
        module.register_forward_pre_hook(lambda *_, name=name: seen.append(name))
    return seen


def model_of(
    composer: Composer, refuse: Callable[[Prepared], None] = lambda prepared: None
) -> tuple[LocalModel, list[str]]:
    torch.set_num_threads(1)
    network = tiny_network(composer)
    model = LocalModel(network, composer.facts, composer.tokens, refuse)
    return model, passes_of(network)


def test_it_sees_reads_and_writes_and_leaves_nothing(composer: Composer) -> None:
    model, seen = model_of(composer)
    warm_up(model, composer.facts, composer.tokens)
    assert seen == ["vision", "text", "head", "text", "head"]
    assert model.caches.nbytes == 0 == model.features.nbytes


def test_the_question_is_one_that_the_model_can_read(composer: Composer) -> None:
    prepared = make_question(composer.facts, composer.tokens)
    ids, budget = prepared.prompt.ids, prepared.prompt.budget
    place = composer.tokens.special("<IMG_CONTEXT>")
    assert ids.count(place) == budget.visual == composer.facts.tokens_per_tile
    assert len(ids) == budget.total and max(ids) < composer.facts.embedding_rows


def test_a_device_without_room_starts_all_the_same(composer: Composer) -> None:
    def refuse(prepared: Prepared) -> None:
        raise OutOfMemory("No room.", "Ask less.")

    model, _ = model_of(composer, refuse)
    warm_up(model, composer.facts, composer.tokens)


def test_a_model_that_cannot_answer_does_not_start(composer: Composer) -> None:
    def break_down(prepared: Prepared) -> None:
        raise RuntimeError("evil forward")

    model, _ = model_of(composer, break_down)
    with pytest.raises(RuntimeError, match="evil"):
        warm_up(model, composer.facts, composer.tokens)


def test_a_loading_is_over_when_the_model_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    at_warming: list[float] = []

    def note(*choices: Any) -> None:
        at_warming.append(shares[-1])
        warm_up_compiled(*choices)

    monkeypatch.setattr(load, "warm_up_compiled", note)
    model = load_checkpoint(Settings(), instant_composer(), shares.append)
    assert 0.9 < at_warming[0] < 1 == shares[-1]
    assert model.batching.batch is not None and len(model.batching.batch) == 0


def test_a_batch_that_cannot_answer_does_not_start(
    composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: Any, **__: Any) -> None:
        raise RuntimeError("evil pages")

    model, _ = model_of(composer)
    model.open_batching("on", Size(places=2, pages=128))
    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, break_down)
    with pytest.raises(EngineFailed, match="RuntimeError"):
        warm_up(model, composer.facts, composer.tokens)
