"""The real network, tiny: what it answers, how it stops, and what happens when it fails."""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import Attachment, Conversation, End, Kind, Request, Sampling, Turn
from backend.engine import Stage
from backend.errors import EngineFailed, OutOfMemory
from backend.local.decoding import ByteTable
from backend.local.engine import LocalEngine
from backend.local.load import load_network, spare_a_core
from backend.local.model import LocalModel
from backend.local.pixels import normalise
from backend.local.placement import Placement
from backend.local.preparation import Prepared, prepare
from backend.local.sampling import penalise
from backend.local.stopping import Stopped
from backend.local.streamer import AnswerStreamer
from backend.prompt.compose import Composer
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.local.golden import DrawnMedia
from tests.backend.local.stand_ins import WAIT_S, instant_composer

PICTURE = Attachment("200,300,1", Kind.IMAGE, "p", max_tiles=6)
VIDEO = Attachment("200,300,1;200,300,2;200,300,3", Kind.VIDEO, "v")
LONG = Attachment(";".join(f"90,90,{k}" for k in range(40)), Kind.VIDEO, "v", frames=40)


@pytest.fixture(scope="module")
def composer() -> Composer:
    facts = instant_composer().facts
    return instant_composer(media=DrawnMedia(facts))


@pytest.fixture(scope="module")
def network(composer: Composer) -> Any:
    spare_a_core()
    placement = Placement(torch.float32)
    layout = composer.facts.layout
    return load_network(BUNDLED_FOLDER, layout, composer.tokens, placement, lambda share: None)


@pytest.fixture(scope="module")
def model(network: Any, composer: Composer) -> LocalModel:
    return LocalModel(network, composer.facts, composer.tokens)


@pytest.fixture(scope="module")
def cold(network: Any, composer: Composer) -> LocalModel:
    """The same network, which keeps nothing for later."""
    return LocalModel(network, composer.facts, composer.tokens, kept_bytes=0)


@pytest.fixture(scope="module")
def endless(network: Any, composer: Composer) -> LocalModel:
    """The same network, which never thinks that it is done."""
    return LocalModel(network, replace(composer.facts, eos_token_ids=()), composer.tokens)


@pytest.fixture
def engine(model: LocalModel, composer: Composer) -> Iterator[LocalEngine]:
    yield from serving(model, composer)


@pytest.fixture
def endless_engine(endless: LocalModel, composer: Composer) -> Iterator[LocalEngine]:
    yield from serving(endless, composer)


def serving(model: LocalModel, composer: Composer) -> Iterator[LocalEngine]:
    engine = LocalEngine(Settings(), lambda *_: model, lambda _: composer)
    engine.start()
    yield engine
    engine.close()


@pytest.fixture
def hooked(network: Any) -> Iterator[Callable[[Any, Callable[..., None]], None]]:
    """Have something called before a module runs, until the end of the test."""
    handles = []

    def hook(module: Any, call: Callable[..., None]) -> None:
        handles.append(module.register_forward_pre_hook(lambda *_: call()))

    yield hook
    for handle in handles:
        handle.remove()


def request(question: str, *files: Attachment, session: str = "", **sampling: Any) -> Request:
    turn = Turn(question, files)
    return Request(Conversation((turn,)), Sampling(**{"max_new_tokens": 12} | sampling), session)


def answer(model: LocalModel, composer: Composer, asked: Request) -> tuple[AnswerStream, Prepared]:
    stream = AnswerStream(asked)
    prepared = prepare(composer, stream)
    stream.finish(model.answer(prepared, stream))
    return stream, prepared


def tiles_of(prepared: Prepared) -> Any:
    cuts = [cut.tiles for cut in prepared.cuts]
    return np.concatenate(cuts) if cuts else np.empty((0, 1, 1, 3), np.uint8)


def bare(network: Any, composer: Composer, prepared: Prepared, **choices: Any) -> tuple[int, ...]:
    """What transformers alone gives, for all tiles at once."""
    ids = torch.tensor([prepared.prompt.ids])
    facts = composer.facts
    pixels = normalise(torch.from_numpy(tiles_of(prepared)), facts.mean, facts.std)
    images = {"pixel_values": pixels} if len(pixels) else {}
    eos = list(facts.eos_token_ids)
    settings = {"do_sample": False, "eos_token_id": eos, "pad_token_id": 0} | choices
    out = network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        **images,
        generation_config=GenerationConfig(max_new_tokens=prepared.room, **settings),
    )
    return tuple(token for token in out[0, ids.shape[1] :].tolist() if token not in eos)


@pytest.mark.parametrize(
    "files", [(), (PICTURE,), (PICTURE, PICTURE), (VIDEO,), (PICTURE, VIDEO), (LONG,)]
)
def test_answers_are_those_of_bare_generate(
    model: LocalModel, network: Any, composer: Composer, files: tuple[Attachment, ...]
) -> None:
    stream, prepared = answer(model, composer, request("What do you see?", *files))
    assert len(tiles_of(prepared)) == prepared.prompt.budget.tiles
    assert stream.token_ids == bare(network, composer, prepared)
    assert "".join(stream) == composer.tokens.decode(stream.token_ids)


def test_tiles_are_seen_a_few_at_a_time_and_in_order(
    network: Any, composer: Composer, hooked: Any
) -> None:
    model = LocalModel(network, composer.facts, composer.tokens)
    prepared = prepare(composer, AnswerStream(request("What moves?", LONG)))
    batches: list[int] = []
    tower = network.model.vision_tower
    handle = tower.register_forward_pre_hook(
        lambda module, taken, given: batches.append(len(given["pixel_values"])), with_kwargs=True
    )
    with torch.inference_mode():
        seen = model.features.of(prepared.cuts)
        handle.remove()
        tiles = torch.from_numpy(tiles_of(prepared))
        pixels = normalise(tiles, composer.facts.mean, composer.facts.std)
        at_once = network.model.get_image_features(pixels).pooler_output
    assert batches == [16, 16, 8]
    torch.testing.assert_close(seen, at_once, atol=1e-5, rtol=1e-5)


def test_an_answer_ends_at_its_allowance_or_when_it_is_done(
    model: LocalModel, endless: LocalModel, composer: Composer
) -> None:
    done, _ = answer(model, composer, request("Hello!", max_new_tokens=200))
    assert done.statistics is not None and done.statistics.end is End.EOS
    assert not set(done.token_ids) & set(composer.facts.eos_token_ids)
    cut, _ = answer(endless, composer, request("Hello!", max_new_tokens=7))
    assert cut.statistics is not None and cut.statistics.end is End.LENGTH
    assert len(cut.token_ids) == 7


def test_a_seed_repeats_an_answer_and_chance_returns_after_it(
    endless: LocalModel, composer: Composer
) -> None:
    def ids(seed: int | None) -> tuple[int, ...]:
        asked = request("Tell me.", temperature=2, seed=seed, max_new_tokens=30)
        return answer(endless, composer, asked)[0].token_ids

    assert ids(1) == ids(1) != ids(2)
    ids(1)
    first = ids(None)
    ids(1)
    assert ids(None) != first


def test_the_checkpoint_s_own_sampling_defaults_are_not_mixed_in(
    network: Any, composer: Composer, model: LocalModel
) -> None:
    asked = request("Hello!", max_new_tokens=60)
    expected = answer(model, composer, asked)[0].token_ids
    assert len(expected) < 50
    network.generation_config = GenerationConfig(
        do_sample=True, temperature=2.0, repetition_penalty=2.0, min_new_tokens=50
    )
    again = LocalModel(network, composer.facts, composer.tokens)
    assert answer(again, composer, asked)[0].token_ids == expected


def test_choices_of_sampling_reach_the_sampler(endless: LocalModel, composer: Composer) -> None:
    """One token to choose from, by any means, is the likeliest one."""
    greedy = answer(endless, composer, request("Hello!"))[0].token_ids
    for narrow in ({"top_k": 1}, {"top_p": 0.01}, {"temperature": 0.001}):
        asked = request("Hello!", **{"temperature": 2} | narrow)
        assert answer(endless, composer, asked)[0].token_ids == greedy


def test_the_repetition_penalty_looks_at_new_tokens_alone(
    endless: LocalModel, network: Any, composer: Composer
) -> None:
    """As `model.chat`, which gives `generate` embeddings instead of the prompt's ids."""
    asked = request("red red red red", repetition_penalty=1.8, max_new_tokens=24)
    stream, prepared = answer(endless, composer, asked)
    embeddings = network.get_input_embeddings()(torch.tensor([prepared.prompt.ids]))
    with pytest.warns(UserWarning, match="only to newly generated tokens"):
        out = network.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
            generation_config=GenerationConfig(
                max_new_tokens=24, do_sample=False, repetition_penalty=1.8, pad_token_id=0
            ),
        )
    assert stream.token_ids == tuple(out[0].tolist())
    assert stream.token_ids != bare(network, composer, prepared, eos_token_id=None)[:24]


def test_the_penalty_leaves_the_words_of_the_prompt_alone() -> None:
    (penalty,) = penalise(Sampling(repetition_penalty=2), prompt_tokens=2)
    ids = torch.tensor([[0, 1, 2, 3]])  # two of the prompt, two new ones
    assert penalty(ids, torch.ones(1, 5)).tolist() == [[1, 1, 0.5, 0.5, 1]]
    assert not penalise(Sampling(), prompt_tokens=2)


def test_a_closed_stream_ends_the_generation_at_the_next_token(composer: Composer) -> None:
    stream = AnswerStream(request("Hello!"))
    streamer = AnswerStreamer(stream, ByteTable(composer.tokens), eos=())
    streamer.put(torch.tensor([[1, 2, 3]]))
    streamer.put(torch.tensor([40]))
    stream.close()
    with pytest.raises(Stopped):
        streamer.put(torch.tensor([41]))
    assert stream.token_ids == (40,)


def test_nothing_is_warned_about(
    model: LocalModel, composer: Composer, caplog: pytest.LogCaptureFixture
) -> None:
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)
    try:
        answer(model, composer, request("Hello!", PICTURE))
        answer(model, composer, request("Hello!", temperature=1, top_k=5, top_p=0.9, seed=1))
        answer(model, composer, request("Hello!", repetition_penalty=1.1))
    finally:
        library.removeHandler(caplog.handler)
    assert not caplog.records


@pytest.mark.parametrize("tower", ["vision", "language"])
def test_stop_in_prefill_ends_it_before_the_next_layer(
    cold: LocalModel, network: Any, composer: Composer, hooked: Any, tower: str
) -> None:
    layers = (
        network.model.vision_tower.encoder.layer
        if tower == "vision"
        else network.model.language_model.layers
    )
    stream = AnswerStream(request("What do you see?", PICTURE))
    prepared = prepare(composer, stream)
    reached: list[int] = []
    hooked(layers[2], stream.close)
    for number, layer in enumerate(layers):
        hooked(layer, lambda number=number: reached.append(number))
    with pytest.raises(Stopped):
        cold.answer(prepared, stream)
    assert reached == [0, 1, 2]
    assert stream.token_ids == ()


def test_stop_while_writing_costs_no_further_step(
    endless: LocalModel, network: Any, composer: Composer, hooked: Any
) -> None:
    stream = AnswerStream(request("Hello!", max_new_tokens=1000))
    prepared = prepare(composer, stream)
    steps: list[int] = []

    def step() -> None:
        steps.append(1)
        if len(steps) == 5:
            stream.close()

    hooked(network.lm_head, step)
    with pytest.raises(Stopped):
        endless.answer(prepared, stream)
    assert len(steps) == 5
    assert len(stream.token_ids) == 4


def test_a_stopped_request_leaves_the_model_free(
    endless_engine: LocalEngine, endless: LocalModel
) -> None:
    stream = endless_engine.stream(request("Hello!", PICTURE, max_new_tokens=1500))
    first = stream.take(WAIT_S)
    stream.close()
    assert first
    for _ in range(3):
        again = endless_engine.stream(request("Hello!", max_new_tokens=2))
        assert len("".join(again)) > 0
        assert len(again.token_ids) == 2
    assert not endless._alone.locked()


@pytest.mark.parametrize("step", [0, 1, 10])
def test_an_exception_in_the_network_is_told_and_the_next_answer_is_right(
    endless_engine: LocalEngine, network: Any, hooked: Any, step: int
) -> None:
    expected = "".join(endless_engine.stream(request("Hello!", PICTURE)))
    steps: list[int] = []

    def evil() -> None:
        steps.append(1)
        if len(steps) == step + 1:
            raise RuntimeError("evil forward")

    hooked(network.lm_head, evil)
    stream = endless_engine.stream(request("Hello!", PICTURE))
    text: list[str] = []
    with pytest.raises(EngineFailed, match="RuntimeError, error"):
        text.extend(stream)
    assert len(stream.token_ids) == step
    assert expected.startswith("".join(text))
    other = endless_engine.stream(request("Hello!", PICTURE, session="other"))
    assert "".join(other) == expected


def test_out_of_memory_is_told_with_its_tiles_and_leaves_no_tensor(
    cold: LocalModel, composer: Composer, network: Any
) -> None:
    engine = next(serving(cold, composer))
    seen: list[weakref.ref[torch.Tensor]] = []

    def evil(layer: Any, taken: tuple[torch.Tensor, ...]) -> None:
        if not seen:
            seen.append(weakref.ref(taken[0]))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    handle = network.model.vision_tower.encoder.layer[1].register_forward_pre_hook(evil)
    with pytest.raises(OutOfMemory, match="for 40 tiles and .* tokens"):
        "".join(engine.stream(request("What moves?", LONG)))
    assert "".join(engine.stream(request("Hello!", PICTURE)))
    assert seen[0]() is None
    handle.remove()
    engine.close()


def test_sessions_at_once_get_the_answers_they_get_alone(
    engine: LocalEngine, model: LocalModel, composer: Composer, network: Any, hooked: Any
) -> None:
    questions = ["Hello!", "Who are you?", "What can you do?", "Thank you!"]
    alone = {q: "".join(answer(model, composer, request(q))[0]) for q in questions}
    assert len(set(alone.values())) > 1
    threads: set[int] = set()
    hooked(network.lm_head, lambda: threads.add(threading.get_ident()))
    streams = [(q, engine.stream(request(q, session=q))) for q in questions * 3]
    for question, stream in streams:
        assert "".join(stream) == alone[question]
    assert len(threads) == 1


def test_two_generations_at_once_are_refused(
    endless: LocalModel, composer: Composer, network: Any, hooked: Any
) -> None:
    refused: list[str] = []
    second = AnswerStream(request("Hello!"))
    prepared = prepare(composer, second)

    def intrude() -> None:
        if not refused:
            with pytest.raises(AssertionError) as failure:
                endless.answer(prepared, second)
            refused.append(str(failure.value))

    hooked(network.lm_head, intrude)
    stream, _ = answer(endless, composer, request("Hello!", max_new_tokens=3))
    assert refused == ["two generations at once on one model"]
    assert len(stream.token_ids) == 3


def test_pixels_that_do_not_match_the_prompt_never_reach_the_language_model(
    model: LocalModel, composer: Composer
) -> None:
    stream = AnswerStream(request("What do you see?", PICTURE))
    prepared = prepare(composer, stream)
    wrong = replace(prepared, cuts=prepared.cuts * 2)
    with pytest.raises(EngineFailed, match="places for"):
        model.answer(wrong, stream)


def test_text_comes_while_the_model_still_writes(endless_engine: LocalEngine) -> None:
    stream = endless_engine.stream(request("Hello!", max_new_tokens=1000))
    pieces = [stream.take(WAIT_S) for _ in range(3)]
    assert all(pieces) and stream.progress.stage is Stage.WRITING
    stream.close()
    while stream.take(0) is not None:
        time.sleep(0.001)
