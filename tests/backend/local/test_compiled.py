"""Compiled steps say what others say, token for token, and are compiled once.

With dynamo alone, which takes seconds, and once with the whole compiler.
"""

import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import DynamicCache

from backend.conversation import Request, Sampling
from backend.errors import BadSetting
from backend.local import compiled
from backend.local.compiled import GRAIN, leave, open_compiled, why_not, why_not_worth_it
from backend.local.memory.caches import even
from backend.local.model import LocalModel
from backend.local.preparation import Prepared, prepare
from backend.local.stopping import Stopped
from backend.local.warming import warm_up_compiled
from backend.prompt.compose import Composer
from backend.stream import AnswerStream
from tests.backend.local.memory.test_caches import LAYERS, cache_of, grow, held
from tests.backend.local.memory.test_warm_and_cold import (
    Person,
    Place,
    Trap,
    disturb,
    draw,
    run,
)
from tests.backend.local.memory.tiny import tiny_composer, tiny_network

TRACED = "eager"  # what dynamo traced is run as it is


class EagerTrap(Trap):
    """Acts where layers are not compiled; to be traced itself would change the step."""

    def _step(self, *_: object) -> None:
        if not torch.compiler.is_compiling():
            super()._step()


def stop_while_writing(place: Place, model: LocalModel, request: Request) -> None:
    stream = AnswerStream(request)
    prepared = prepare(place.composer, stream)
    with suppress(Stopped):
        model.answer(prepared, stream, lambda: stream.close() if stream.token_ids[1:] else None)


@pytest.fixture(scope="module")
def composer() -> Composer:
    torch.set_num_threads(1)
    return tiny_composer()


@pytest.fixture
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def test_compiled_answers_are_those_of_a_cold_model(composer: Composer, fresh: None) -> None:
    """People who go on, branch off, stop and meet errors."""
    network = tiny_network(composer)
    facts = replace(composer.facts, eos_token_ids=tuple(range(0, 1500, 25)))
    cold = LocalModel(network, facts, composer.tokens, kept_bytes=0)
    model = LocalModel(network, facts, composer.tokens, kept_bytes=400_000)
    model.open_compiled("on", TRACED)
    assert model.attention == "sdpa, compiled"
    place = Place(composer, cold, (model,), EagerTrap(network))
    chance = random.Random(7)
    people = [Person(number) for number in range(3)]
    kept = 0
    for _ in range(30):
        person, request = draw(people, chance)
        if chance.random() < 0.3:
            disturb(place, model, request, chance)
            stop_while_writing(place, model, request)
        right, stream = run(place, cold, request), run(place, model, request)
        assert stream.token_ids == right.token_ids
        assert stream.statistics is not None
        kept += stream.statistics.cached_tokens
        person.hear(request.conversation, stream)
    assert kept > 0
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler wants a C++ compiler")
def test_what_the_whole_compiler_makes_says_the_same(
    composer: Composer, fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    network = tiny_network(composer)
    cold = LocalModel(network, composer.facts, composer.tokens, kept_bytes=0)
    model = LocalModel(network, composer.facts, composer.tokens)
    with torch._inductor.config.patch(compile_threads=1):  # else processes stay behind
        warm_up_compiled(model, "on", composer.facts, composer.tokens)
    assert model.compiled is not None and list(tmp_path.rglob("*.so"))
    place = Place(composer, cold, (model,), EagerTrap(network))
    for number in range(3):
        request = Request(Person(number).ask(), Sampling(max_new_tokens=12))
        right = run(place, cold, request).token_ids
        assert len(right) > 1 and run(place, model, request).token_ids == right


def test_a_question_is_weighed_with_all_that_a_fixed_cache_has_room_for(
    composer: Composer,
) -> None:
    weighed: list[int] = []

    def refuse(prepared: Prepared) -> None:
        weighed.append(prepared.prompt.budget.total + prepared.room)

    model = LocalModel(tiny_network(composer), composer.facts, composer.tokens, refuse)
    prepared = prepare(composer, AnswerStream(Request(Person(0).ask())))
    for wanted in ("off", "on"):
        model.open_compiled(wanted, TRACED)
        assert model._refusal(prepared) is None
    bare, fixed = weighed
    assert bare < fixed < bare + GRAIN and fixed % GRAIN == 0


def test_the_first_person_does_not_wait_for_the_compiler(composer: Composer, fresh: None) -> None:
    model = LocalModel(tiny_network(composer), composer.facts, composer.tokens)
    warm_up_compiled(model, "on", composer.facts, composer.tokens, TRACED)
    assert model.compiled is not None
    cache = model.compiled._cache
    assert cache is not None
    stream = AnswerStream(Request(Person(0).ask(), Sampling(max_new_tokens=3)))
    model.answer(prepare(composer, stream), stream)
    assert len(stream.token_ids) == 3
    assert counters["stats"]["unique_graphs"] == 1
    assert model.compiled._cache is cache


def test_the_cache_of_fixed_size_is_kept_until_a_larger_one_is_needed(composer: Composer) -> None:
    steps = open_compiled("on", tiny_network(composer), batched=False)
    assert steps is not None
    first = steps.enter(DynamicCache(), 10)
    grow(first, [1, 2, 3])
    assert held(leave(first)) == [1, 2, 3]
    again = steps.enter(cache_of([4, 5]), GRAIN)
    assert again is first and held(leave(again)) == [4, 5]
    larger = steps.enter(cache_of([6]), GRAIN + 1)
    assert larger.get_max_length() == 2 * GRAIN and held(leave(larger)) == [6]
    assert steps.free() and not steps.free()


def test_a_fixed_cache_whose_last_layers_were_not_reached_leaves_nothing(
    composer: Composer,
) -> None:
    steps = open_compiled("on", tiny_network(composer), batched=False)
    assert steps is not None
    cache = steps.enter(DynamicCache(), 10)
    grow(cache, [1, 2], layers=LAYERS - 1)
    assert even(leave(cache)) == 0


@pytest.mark.parametrize(
    ("places", "layers", "reason"),
    [
        ({"": 0}, ("full_attention",), ""),
        ({"a": 0, "b": 1}, ("full_attention",), "spread"),
        ({"": 0}, ("full_attention", "sliding_attention"), "only a part"),
    ],
)
def test_a_model_says_why_its_steps_cannot_be_compiled(
    places: dict[str, int], layers: tuple[str, ...], reason: str
) -> None:
    network: Any = SimpleNamespace(
        hf_device_map=places,
        parameters=lambda: iter(()),
        device=torch.device("cuda"),
        config=SimpleNamespace(get_text_config=lambda decoder: SimpleNamespace(layer_types=layers)),
    )
    assert reason in why_not(network) and bool(why_not(network)) == bool(reason)
    assert open_compiled("off", network, batched=False) is None
    assert (open_compiled("auto", network, batched=False) is None) == bool(reason)
    assert open_compiled("auto", network, batched=True) is None
    if reason:
        with pytest.raises(BadSetting, match=reason):
            open_compiled("on", network, batched=False)


def test_quantised_matrices_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "quantization_of", lambda network: "nf4")
    network: Any = SimpleNamespace(hf_device_map={"": 0})
    assert "bitsandbytes" in why_not(network)


def test_it_is_worth_it_on_a_gpu_that_answers_one_at_a_time() -> None:
    gpu, processor = torch.device("cuda"), torch.device("cpu")
    assert not why_not_worth_it(gpu, batched=False)
    assert "several" in why_not_worth_it(gpu, batched=True)
    assert "cpu" in why_not_worth_it(processor, batched=False)


def test_a_compiler_that_fails_is_done_without_unless_it_was_insisted_on(
    composer: Composer, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("evil compiler")

    model = LocalModel(tiny_network(composer), composer.facts, composer.tokens)
    with pytest.raises(BadSetting, match="evil compiler"):
        warm_up_compiled(model, "on", composer.facts, composer.tokens, fail)
    monkeypatch.setattr(compiled, "why_not_worth_it", lambda device, batched: "")
    warm_up_compiled(model, "auto", composer.facts, composer.tokens, fail)
    assert model.compiled is None and model.attention == "sdpa"
