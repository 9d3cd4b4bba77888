"""What people will probably ask about is cut and encoded before they do, while they want it."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from backend.conversation import Attachment, Conversation, Kind, Request, Sampling, Turn
from backend.errors import BadFile
from backend.local.engine import LocalEngine
from backend.local.memory.ahead import MOST_SESSIONS, Ahead, Encoding, Interest
from backend.local.model import LocalModel
from backend.local.preparation import Cut
from backend.local.stopping import Stopped
from backend.local.worker import Batching
from backend.settings import Settings
from tests.backend.local.memory.tiny import tiny_composer, tiny_network
from tests.backend.local.stand_ins import (
    WAIT_S,
    HeldBatch,
    ScriptedModel,
    ask,
    scripted_engine,
)
from tests.waiting import wait_until


def file(name: str) -> Attachment:
    return Attachment(name, Kind.IMAGE, name)


A, B, C = map(file, "abc")


def tiles(of: Attachment, count: int = 3) -> Cut:
    return Cut(of.path.encode(), np.zeros((count, 1, 1, 3), np.uint8))


def uncut(ahead: Ahead) -> list[Attachment]:
    """All that is to be cut now."""
    found = []
    while any(work.stage.name == "NEW" for work in ahead._work.values()):
        found.append(ahead.next_uncut())
    return [one for one in found if one is not None]


class Encoder:
    """One tile a batch; notes what was encoded."""

    def __init__(self) -> None:
        self.done: list[bytes] = []
        self.broken: set[bytes] = set()

    def __call__(self, cut: Cut, interest: Interest) -> Iterator[None]:
        for _ in cut.tiles:
            if not interest.wanted:
                return
            if cut.key in self.broken:
                raise RuntimeError("evil forward")
            self.done.append(cut.key)
            yield


def test_files_are_cut_and_encoded_in_order_a_batch_at_a_time() -> None:
    woken: list[int] = []
    ahead, encoder = Ahead(lambda: woken.append(1)), Encoder()
    encoding = Encoding(ahead, encoder)
    ahead.expect("one", (A, B))
    assert encoding.idle
    assert uncut(ahead) == [A, B]
    for one in (A, B):
        ahead.cut(one, tiles(one, 2))
    assert len(woken) == 2
    seen = []
    while not encoding.idle:
        encoding.step()
        seen.append(len(encoder.done))
    assert encoder.done == [b"a", b"a", b"b", b"b"]
    assert seen == sorted(seen) and max(np.diff([0, *seen])) == 1
    encoding.step()  # nothing to do is no error
    assert len(encoder.done) == 4


def test_a_removed_file_is_not_cut_and_not_encoded_further() -> None:
    ahead, encoder = Ahead(), Encoder()
    encoding = Encoding(ahead, encoder)
    ahead.expect("one", (A, B))
    assert uncut(ahead) == [A, B]
    ahead.cut(A, tiles(A))
    encoding.step()
    ahead.expect("one", (B,))
    assert not ahead.wants(A) and ahead.wants(B)
    ahead.cut(A, tiles(A))  # was being cut
    while not encoding.idle:
        encoding.step()
    assert encoder.done == [b"a"]


def test_one_more_file_does_not_begin_the_others_anew() -> None:
    ahead = Ahead()
    ahead.expect("one", (A,))
    assert uncut(ahead) == [A]
    ahead.expect("one", (A, B))
    assert uncut(ahead) == [B]
    ahead.cut(A, tiles(A))
    ahead.take_cut()
    ahead.expect("one", (A, B, C))
    assert uncut(ahead) == [C] and not ahead.has_cut


def test_what_another_session_wants_too_is_not_dropped() -> None:
    ahead = Ahead()
    ahead.expect("one", (A,))
    ahead.expect("two", (A,))
    ahead.expect("one", ())
    assert ahead.wants(A)
    ahead.expect("two", ())
    assert not ahead.wants(A)


def test_tiles_are_not_held_once_they_are_taken_or_unwanted() -> None:
    ahead = Ahead()
    ahead.expect("one", (A,))
    uncut(ahead)
    ahead.cut(A, tiles(A))
    assert ahead.take_cut() is not None and ahead.take_cut() is None
    ahead.expect("one", (B,))
    uncut(ahead)
    ahead.cut(B, tiles(B))
    ahead.expect("one", ())
    assert not ahead.has_cut and ahead.take_cut() is None


def test_a_batch_that_fails_costs_its_file_alone() -> None:
    ahead, encoder = Ahead(), Encoder()
    encoding = Encoding(ahead, encoder)
    encoder.broken = {b"a"}
    ahead.expect("one", (A, B))
    for one in uncut(ahead):
        ahead.cut(one, tiles(one, 1))
    with pytest.raises(RuntimeError, match="evil"):
        encoding.step()
    while not encoding.idle:
        encoding.step()
    assert encoder.done == [b"b"]


def test_hints_of_sessions_long_gone_are_forgotten() -> None:
    ahead = Ahead()
    for number in range(MOST_SESSIONS + 1):
        ahead.expect(str(number), (file(str(number)),))
    assert not ahead.wants(file("0")) and ahead.wants(file("1"))


def test_shutting_lets_the_one_who_cuts_go() -> None:
    ahead = Ahead()
    found: list[Attachment | None] = []
    thread = threading.Thread(target=lambda: found.append(ahead.next_uncut()))
    thread.start()
    ahead.shut()
    thread.join(WAIT_S)
    ahead.expect("one", (A,))
    assert found == [None] and not ahead.wants(A) and ahead.next_uncut() is None


# Through the engine


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def engine(model: ScriptedModel) -> Iterator[LocalEngine]:
    engine = scripted_engine(model)
    yield engine
    engine.close()


def test_the_engine_sees_files_before_anybody_asks(
    engine: LocalEngine, model: ScriptedModel
) -> None:
    engine.expect("one", (A, B))
    wait_until(lambda: model.seen_ahead == [b"a", b"b"])
    assert model.answered == []


def test_a_file_that_is_wanted_is_so_at_any_moment() -> None:
    """Whoever reads it asks from another thread, in the middle of a hint about others too."""
    ahead = Ahead()
    told: list[bool] = []

    class Asking(Attachment):
        def __hash__(self) -> int:
            told.append(ahead.wants(A))
            return 1

    ahead.expect("one", (A,))
    ahead.expect("one", (Asking("asking", Kind.IMAGE, "asking"), A))
    assert told and all(told)


def test_the_engine_answers_first_and_looks_ahead_afterwards(
    engine: LocalEngine, model: ScriptedModel
) -> None:
    model.gate.clear()
    stream = engine.stream(ask("Hello!"))
    wait_until(lambda: model.at_once == 1)
    engine.expect("two", (A,))
    wait_until(lambda: engine._ahead.has_cut)
    time.sleep(0.05)
    assert model.seen_ahead == []
    model.gate.set()
    assert "".join(stream) == "Hello!"
    wait_until(lambda: model.seen_ahead == [b"a"])


def test_a_running_batch_comes_first_too(model: ScriptedModel) -> None:
    batch = HeldBatch()
    model.batching = Batching(batch, always=True)
    engine = scripted_engine(model)
    stream = engine.stream(ask("Hello!"))
    wait_until(lambda: batch.steps > 0)
    engine.expect("two", (A,))
    wait_until(lambda: engine._ahead.has_cut)
    steps = batch.steps
    wait_until(lambda: batch.steps > steps + 5)
    assert model.seen_ahead == []
    batch.gate.set()
    assert "".join(stream) == ""
    wait_until(lambda: model.seen_ahead == [b"a"])
    engine.close()


def test_a_file_that_cannot_be_cut_or_encoded_ahead_costs_nobody_anything(
    engine: LocalEngine, model: ScriptedModel
) -> None:
    wait_until(lambda: engine.composer is not None)
    media: Any = engine.composer.media if engine.composer else None

    def broken(one: Attachment, stopped: Any = bool) -> bytes:
        if one == A:
            raise BadFile(one.name, "it is broken.", "Mend it.")
        return one.path.encode()

    def evil(written: int | None) -> None:
        raise RuntimeError("evil forward")

    media.key = broken
    model.fail = evil
    engine.expect("one", (A, B))
    wait_until(lambda: model.recovered == 1)
    model.fail = lambda written: None
    assert "".join(engine.stream(ask("Hello!"))) == "Hello!"


def test_typed_after_the_upload_a_question_finds_its_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(1)
    composer = tiny_composer()
    model = LocalModel(tiny_network(composer), composer.facts, composer.tokens)
    batches: list[int] = []
    encode = model.features._encode
    monkeypatch.setattr(
        model.features, "_encode", lambda tiles: (batches.append(len(tiles)), encode(tiles))[1]
    )
    engine = LocalEngine(Settings(), lambda *_: model, lambda _: composer)
    engine.start()
    film = Attachment("film-10x1", Kind.VIDEO, "film")
    engine.expect("one", (film,))
    wait_until(lambda: sum(batches) == 10)
    assert batches == [4, 4, 2]
    turn = Turn("What moves?", (film,))
    stream = engine.stream(Request(Conversation((turn,)), Sampling(max_new_tokens=2), "one"))
    assert len("".join(stream)) >= 0 and len(stream.token_ids) == 2
    assert sum(batches) == 10
    engine.close()


def test_closing_the_engine_ends_a_batch_within_a_layer() -> None:
    torch.set_num_threads(1)
    composer = tiny_composer()
    network = tiny_network(composer)
    model = LocalModel(network, composer.facts, composer.tokens)
    ahead = Ahead()
    reached: list[int] = []
    for number, layer in enumerate(network.model.vision_tower.encoder.layer):
        layer.register_forward_pre_hook(lambda *_, number=number: reached.append(number))
    network.model.vision_tower.encoder.layer[0].register_forward_pre_hook(lambda *_: ahead.shut())
    ahead.expect("one", (A,))
    uncut(ahead)
    noise = np.zeros((2, composer.facts.tile, composer.facts.tile, 3), np.uint8)
    ahead.cut(A, Cut(b"a", noise))
    with pytest.raises(Stopped):
        Encoding(ahead, model.look_ahead).step()
    assert reached == [0]


def test_the_model_encodes_no_further_batch_of_a_removed_file() -> None:
    torch.set_num_threads(1)
    composer = tiny_composer()
    network = tiny_network(composer)
    model = LocalModel(network, composer.facts, composer.tokens)
    batches: list[int] = []
    network.model.vision_tower.register_forward_pre_hook(lambda *_: batches.append(1))
    ahead = Ahead()
    encoding = Encoding(ahead, model.look_ahead)
    ahead.expect("one", (A,))
    uncut(ahead)
    noise = np.zeros((10, composer.facts.tile, composer.facts.tile, 3), np.uint8)
    ahead.cut(A, Cut(b"a", noise))
    encoding.step()
    ahead.expect("one", ())
    while not encoding.idle:
        encoding.step()
    assert len(batches) == 1
