"""Both ways to answer behind one engine, on the bundled checkpoint."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backend.conversation import Answer, Conversation, Request, Sampling, Turn
from backend.engine import State
from backend.errors import EngineFailed
from backend.local.engine import LocalEngine, load_checkpoint
from backend.local.preparation import Prepared
from backend.local.together.batch import Batch
from backend.local.waiting import WaitingLine
from backend.prompt.compose import Composer
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.local.stand_ins import WAIT_S

QUESTIONS = ("Hello!", "Who are you?", "What can you do?", "Thank you!", "red")


def load_endless(settings: Settings, composer: Composer, report: Any) -> Any:
    """A model that never thinks that it is done."""
    facts = replace(composer.facts, eos_token_ids=())
    return load_checkpoint(settings, Composer(facts, composer.tokens, composer.media), report)


def start(batching: str, load: Any = load_checkpoint) -> LocalEngine:
    engine = LocalEngine(Settings(batching=batching, max_queue=64), load)
    engine.start()
    done = threading.Event()
    for _ in range(WAIT_S * 100):
        if engine.status().state is not State.LOADING:
            break
        done.wait(0.02)
    assert engine.status().state is State.READY
    return engine


@pytest.fixture(scope="module")
def together() -> Iterator[LocalEngine]:
    engine = start("on")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def one_by_one() -> Iterator[LocalEngine]:
    engine = start("off")
    yield engine
    engine.close()


def ask(question: str, session: str = "", **sampling: Any) -> Request:
    choices = {"max_new_tokens": 12} | sampling
    return Request(Conversation((Turn(question),)), Sampling(**choices), session)


def test_a_status_tells_how_many_are_answered_at_once(
    together: LocalEngine, one_by_one: LocalEngine
) -> None:
    assert together.status().batching == "up to 8 at once"
    assert one_by_one.status().batching == "one at a time: as was asked for"


def test_those_answered_alone_and_those_together_get_what_they_get_one_by_one(
    together: LocalEngine, one_by_one: LocalEngine
) -> None:
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"repetition_penalty": 1.5},
        {"temperature": 2, "seed": 7},
        {"stop": ("e",)},
    )
    asked = [ask(q, q + str(kind), **kind) for q in QUESTIONS for kind in kinds]
    expected = ["".join(one_by_one.stream(request)) for request in asked]
    streams = [together.stream(request) for request in asked]
    assert ["".join(stream) for stream in streams] == expected


def test_one_alone_and_those_together_do_not_hold_each_other_up() -> None:
    """Each token of his is followed by a step for them. Closing ends all and leaves no thread."""
    engine = start("on", load_endless)
    endless = {"max_new_tokens": 1900}
    alone = engine.stream(ask("Hello!", "alone", repetition_penalty=1.5, **endless))
    long = engine.stream(ask("Hello!", "long", **endless))
    assert alone.take(WAIT_S) and long.take(WAIT_S)
    others = [engine.stream(ask(question, question, max_new_tokens=6)) for question in QUESTIONS]
    for stream in others:
        "".join(stream)
        assert len(stream.token_ids) == 6
    written = len(alone.token_ids), len(long.token_ids)
    more = engine.stream(ask("red", "more", max_new_tokens=6))
    "".join(more)
    assert (len(alone.token_ids), len(long.token_ids)) > written
    assert alone.statistics is None and long.statistics is None
    engine.close()
    for stream in (alone, long):
        while stream.take(0) is not None:
            continue
    assert not [thread for thread in engine._threads if thread.is_alive()]
    with pytest.raises(EngineFailed, match="closed"):
        engine.stream(ask("Hello!"))


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sessions whose requests came into a batch."""
    sessions: list[str] = []
    join = Batch.join

    def note(batch: Batch, prepared: Prepared, stream: AnswerStream) -> None:
        sessions.append(stream.request.session)
        join(batch, prepared, stream)

    monkeypatch.setattr(Batch, "join", note)
    return sessions


def test_whoever_is_alone_is_answered_alone_until_others_come(joined: list[str]) -> None:
    engine = start("auto")
    for question in QUESTIONS[:2]:
        assert "".join(engine.stream(ask(question, "anna")))
    assert "anna" not in joined
    assert "".join(engine.stream(ask(QUESTIONS[0], "bert")))
    assert joined[-1] == "bert"
    engine.close()


class Talk:
    """One person's conversation, of which each turn is read after the ones before it."""

    def __init__(self, engine: LocalEngine, session: str) -> None:
        self._engine = engine
        self._session = session
        self._conversation = Conversation()

    def ask(self, room: int = 4) -> AnswerStream:
        """Ask once more."""
        turn = Turn(f"{self._session} asks " + "again and " * 60)
        self._conversation = self._conversation.asked(turn)
        sampling = Sampling(max_new_tokens=room)
        return self._engine.stream(Request(self._conversation, sampling, self._session))

    def go_on(self) -> int:
        """Ask once more and listen; returns the tokens that needed no reading."""
        stream = self.ask()
        text = "".join(stream)
        self._conversation = self._conversation.answered(Answer(text, stream.token_ids))
        assert stream.statistics is not None
        return stream.statistics.cached_tokens


def test_a_conversation_stays_where_much_of_it_was_read(
    joined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.local.worker.MUCH", 100)
    engine = start("auto")
    joined.clear()  # of who warmed it up
    anna, bert, carl = (Talk(engine, name) for name in ("anna", "bert", "carl"))
    anna.go_on()
    bert.go_on()
    assert joined == ["bert"], "anna was alone when she came, he was not"
    assert anna.go_on() > 100 and bert.go_on() > 100
    assert joined == ["bert", "bert"]
    monkeypatch.setattr(WaitingLine, "has_company", lambda *_: False)
    assert bert.go_on() > 300
    assert joined == ["bert"] * 3
    carl.go_on()
    assert joined == ["bert"] * 3, "of him nothing is kept"
    engine.close()


def test_while_one_is_answered_alone_others_come_in_whatever_was_read(
    joined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.local.worker.MUCH", 100)
    engine = start("auto", load_endless)
    joined.clear()
    anna, bert = Talk(engine, "anna"), Talk(engine, "bert")
    with monkeypatch.context() as patch:
        patch.setattr(WaitingLine, "has_company", lambda *_: False)
        for person in (anna, bert):
            person.go_on()
    assert not joined
    long = anna.ask(room=1500)
    assert long.take(WAIT_S)
    assert bert.go_on() == 0, "he is read again, or he would have to wait for her"
    assert joined == ["bert"] and long.statistics is None
    long.close()
    engine.close()
