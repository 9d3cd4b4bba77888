"""Rows side by side: the same answers as one by one, and nobody harmed by what befalls another."""

import random
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.cache_utils import DynamicLayer

from backend.checkpoint.facts import read_facts
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.checkpoint.tokenizer import read_tokens
from backend.conversation import Attachment, Conversation, End, Kind, Request, Sampling, Turn
from backend.errors import EngineFailed, OutOfMemory
from backend.local.choices import decide
from backend.local.engine import LocalEngine
from backend.local.load import load_network
from backend.local.model import LocalModel
from backend.local.placement import Placement
from backend.local.preparation import prepare
from backend.local.rows import Rows, rows_fit
from backend.local.together.size import places_on
from backend.planner.configs import read_shape
from backend.planner.devices import CPU, DISK, GB, Device, Machine
from backend.planner.shapes import LAYERS
from backend.prompt.compose import Composer
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.local.golden import FOLDER, DrawnMedia
from tests.backend.local.stand_ins import WAIT_S
from tests.waiting import wait_until

QWEN, INTERNLM = FOLDER / "qknorm-112", FOLDER / "internlm2-112"
WORDS = ("what", "is", "this", "and", "where", "are", "they", "compare", "describe", "the", "shape")


def composer_of(folder: Path) -> Composer:
    facts = read_facts(folder)
    return Composer(facts, read_tokens(folder), DrawnMedia(facts))  # type: ignore[arg-type]


def load(folder: Path, on_disk: bool = False) -> LocalModel:
    names = read_shape(folder).modules
    places: dict[str, Any] = {n: DISK if n.startswith(LAYERS) else CPU for n in names}
    placement = Placement(torch.float32, device_map=places if on_disk else {"": CPU})
    facts, tokens = read_facts(folder), read_tokens(folder)
    network = load_network(folder, facts.layout, tokens, placement, lambda share: None)
    return LocalModel(network, facts, tokens)


class Side:
    """An engine that answers rows side by side, and how many each pass held."""

    def __init__(self, folder: Path, places: int = 6, on_disk: bool = False) -> None:
        self.passes: list[int] = []
        self.model = load(folder, on_disk)
        self.gate = threading.Event()
        self.model.open_rows(places, lambda rows, longest: True)
        assert isinstance(self.model.batching.batch, Rows)
        self.rows = self.model.batching.batch
        begin = self.rows._begin

        def note(rows: Any) -> Any:
            self.passes.append(len(rows))
            return begin(rows)

        self.rows._begin = note  # type: ignore[method-assign]
        settings, composer = Settings(max_queue=500), composer_of(folder)
        self.engine = LocalEngine(settings, self._load, lambda _: composer)
        self.engine.start()

    def _load(self, *_: Any) -> LocalModel:
        assert self.gate.wait(WAIT_S)
        return self.model

    def ask(self, *requests: Request) -> list[AnswerStream]:
        """Ask, and let the model come only when all are prepared, so that all wait together."""
        streams = [self.engine.stream(request) for request in requests]
        if not self.gate.is_set():
            while any(s.progress.stage.value == "preparing" for s in streams):
                threading.Event().wait(0.01)
            self.gate.set()
        return streams


@pytest.fixture
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    made = Side(getattr(request, "param", QWEN))
    yield made
    made.gate.set()
    made.engine.close()


def row(chance: random.Random, most: int = 6) -> Request:
    """A question about no to three pictures of one to six tiles."""
    files = tuple(
        Attachment(
            f"{chance.randrange(60, 400)},{chance.randrange(60, 400)},{chance.randrange(9)}",
            Kind.IMAGE,
            "p",
            chance.randrange(1, 7),
        )
        for _ in range(chance.randrange(4))
    )
    question = " ".join(chance.choices(WORDS, k=chance.randrange(1, 30)))
    turn = Turn(question, files, chance.random() < 0.2)
    return Request(Conversation((turn,)), Sampling(max_new_tokens=chance.randrange(1, most)))


def text(question: str, most: int) -> Request:
    return Request(Conversation((Turn(question),)), Sampling(max_new_tokens=most))


def alone(folder: Path, requests: list[Request]) -> list[tuple[int, ...]]:
    model, composer = load(folder), composer_of(folder)
    told = []
    for request in requests:
        stream = AnswerStream(request)
        model.answer(prepare(composer, stream), stream)
        told.append(stream.token_ids)
    return told


@pytest.mark.parametrize("side", [QWEN, INTERNLM, BUNDLED_FOLDER], indirect=True, ids=str)
def test_rows_side_by_side_are_answered_as_one_by_one(
    side: Side, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.node.callspec.params["side"]
    chance = random.Random(11)
    requests = [row(chance) for _ in range(30)]
    streams = side.ask(*requests)
    for stream in streams:
        "".join(stream)
    assert [stream.token_ids for stream in streams] == alone(folder, requests)
    assert max(side.passes) == 6 and sum(side.passes) == 30
    assert side.engine.status().at_once == 6


def test_rows_answer_the_same_where_layers_lie_on_the_disk() -> None:
    side = Side(QWEN, places=3, on_disk=True)
    requests = [row(random.Random(seed)) for seed in range(6)]
    streams = side.ask(*requests)
    for stream in streams:
        "".join(stream)
    assert [stream.token_ids for stream in streams] == alone(QWEN, requests)
    assert max(side.passes) == 3
    side.engine.close()


def test_a_row_that_is_closed_leaves_and_the_others_are_answered_as_ever(side: Side) -> None:
    chance = random.Random(3)
    requests = [row(chance, most=40) for _ in range(4)]
    streams = side.ask(*requests)
    while streams[1].progress.stage.value != "writing" and streams[1].statistics is None:
        threading.Event().wait(0.005)
    streams[1].close()
    for stream in streams:
        "".join(stream)
    expected = alone(QWEN, requests)
    assert [s.token_ids for s in streams[:1] + streams[2:]] == expected[:1] + expected[2:]
    assert streams[1].token_ids == expected[1][: len(streams[1].token_ids)]


def test_a_row_whose_pictures_do_not_fit_is_told_and_the_others_go_on(side: Side) -> None:
    of = side.model.features.of
    side.model.features.of = lambda cuts, *_: of(cuts)[: 1 + (cuts[0].key != bad)]  # type: ignore[method-assign]
    chance = random.Random(4)
    requests = [row(chance) for _ in range(3)]
    picture = Attachment("300,100,1", Kind.IMAGE, "p", 6)
    requests[1] = Request(Conversation((Turn("Q", (picture,)),)), Sampling(max_new_tokens=3))
    bad = prepare(composer_of(QWEN), AnswerStream(requests[1])).cuts[0].key
    texts = [Request(Conversation((Turn("Q"),)), Sampling(max_new_tokens=3))] * 2
    requests = [texts[0], requests[1], texts[1]]
    first, second, third = side.ask(*requests)
    with pytest.raises(EngineFailed, match="places for"):
        "".join(second)
    assert "".join(first) == "".join(third)
    assert first.statistics is not None and first.statistics.new_tokens == 3


def test_a_step_that_breaks_ends_its_rows_and_the_next_ones_are_answered(side: Side) -> None:
    forward, broken = side.rows._forward, []

    def fail_once(now: Any) -> list[int]:
        if not broken:
            broken.append(now)
            raise RuntimeError("a step broke")
        return forward(now)

    side.rows._forward = fail_once  # type: ignore[method-assign]
    chance = random.Random(6)
    requests = [row(chance) for _ in range(2)]
    for stream in side.ask(*requests):
        with pytest.raises(EngineFailed, match="failed before the first token"):
            "".join(stream)
    streams = [side.engine.stream(request) for request in requests]
    for stream in streams:
        "".join(stream)
    assert [stream.token_ids for stream in streams] == alone(QWEN, requests)


def test_who_ended_is_told_once_though_the_others_break(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    select = DynamicLayer.batch_select_indices
    broken: list[int] = []

    def fail_once(layer: DynamicLayer, kept: torch.Tensor) -> None:
        if not broken:
            broken.append(len(kept))
            raise MemoryError
        select(layer, kept)

    monkeypatch.setattr(DynamicLayer, "batch_select_indices", fail_once)
    first, second = side.ask(*(text("Hello", most) for most in (1, 5)))
    "".join(first)
    assert len(first.token_ids) == 1
    with pytest.raises(OutOfMemory):
        "".join(second)
    assert broken == [1]
    after = side.engine.stream(text("Hello", 5))
    "".join(after)
    assert [after.token_ids] == alone(QWEN, [after.request])


def test_a_pass_that_nobody_reads_any_more_ends_within_a_layer(side: Side) -> None:
    layers = side.model._network.model.language_model.layers
    streams: list[AnswerStream] = []
    reached: list[int] = []

    def close_all(*_: Any) -> None:
        for stream in streams:
            stream.close()

    handles = [layers[0].register_forward_pre_hook(close_all)]
    for number, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(lambda *_, n=number: reached.append(n)))
    streams += [side.engine.stream(text("Hello", 5)) for _ in range(2)]
    side.ask()
    for stream in streams:
        assert "".join(stream) == ""
    wait_until(lambda: len(side.rows) == 0)
    for handle in handles:
        handle.remove()
    assert reached == [0]
    assert "".join(side.engine.stream(text("Hello", 5)))


def test_sampled_requests_are_answered_alone_meanwhile(side: Side) -> None:
    turn = (Turn("Hello"),)
    sampled = Request(Conversation(turn), Sampling(1.0, max_new_tokens=5, seed=1))
    greedy = Request(Conversation(turn), Sampling(max_new_tokens=20))
    streams = side.ask(greedy, sampled, greedy)
    for stream in streams:
        "".join(stream)
        assert stream.statistics is not None
        assert stream.statistics.end in (End.EOS, End.LENGTH)
    assert sum(side.passes) == 2


def test_the_planner_tells_how_many_rows_fit() -> None:
    machine = Machine(cpu=Device(CPU, 8 * GB), disk=Device(DISK, 8 * GB))
    plan = decide(Settings(), read_shape(QWEN), machine).plan
    longest = prepare(composer_of(QWEN), AnswerStream(row(random.Random(1))))
    fits = partial(rows_fit, plan)
    most = [n for n in range(1, 500) if fits(lambda name: 10**7, n, longest)]
    assert most and most == list(range(1, len(most) + 1)) and len(most) < 499
    assert fits(lambda name: 10**8, 2 * len(most), longest)
    assert places_on(plan.machine.workers[0].name) == 8


def test_only_whole_weights_on_several_devices_are_spread() -> None:
    shape, disk = read_shape(BUNDLED_FOLDER), Device(DISK, 8 * GB)
    assert not decide(Settings(), shape, Machine(cpu=Device(CPU, 8 * GB), disk=disk)).is_spread
