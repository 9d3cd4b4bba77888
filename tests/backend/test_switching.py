"""Changing the model: the old one leaves first, its readers are told, the last choice wins."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from backend.conversation import Conversation, End, Request, Turn
from backend.engine import Stage, State
from backend.errors import BadCheckpoint, EngineFailed, ModelChanged
from backend.settings import Settings
from backend.switching import SwitchingEngine
from tests.fakes import FakeEngine
from tests.waiting import wait_until

WAIT_S = 20
SMALL, LARGE, THIRD = (Settings(model=name) for name in ("small", "large", "third"))
QUESTION = Request(Conversation((Turn("Why?"),)))


class Inner(FakeEngine):
    """An engine of the workshop: loads when told to, and closes when it may."""

    def __init__(self, settings: Settings, workshop: "Workshop") -> None:
        super().__init__(settings.model)
        self.composer = f"composer of {settings.model}"
        self.become(State.LOADING)
        self._workshop = workshop

    def start(self) -> None:
        self._workshop.happened.append(f"{self.now.model} starts")
        self._workshop.loaded.add(self)
        self._workshop.most_at_once = max(self._workshop.most_at_once, len(self._workshop.loaded))
        self.become(self._workshop.outcomes.get(self.now.model, State.READY), 1.0, "damaged")

    def close(self) -> None:
        self._workshop.happened.append(f"{self.now.model} is to close")
        assert self._workshop.may_close.wait(WAIT_S)
        super().close()
        self._workshop.closing.set()
        self._workshop.loaded.discard(self)
        self._workshop.happened.append(f"{self.now.model} closed")


class Workshop:
    """Makes engines and remembers what became of them."""

    def __init__(self) -> None:
        self.made: list[Inner] = []
        self.happened: list[str] = []
        self.outcomes: dict[str, State] = {}
        self.loaded: set[Inner] = set()
        self.most_at_once = 0
        self.closing = threading.Event()
        self.may_close = threading.Event()
        self.may_close.set()

    def make(self, settings: Settings) -> Inner:
        self.made.append(Inner(settings, self))
        return self.made[-1]


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def engine(workshop: Workshop) -> Iterator[SwitchingEngine[str]]:
    engine = SwitchingEngine(SMALL, workshop.make)
    engine.start()
    wait_until(lambda: engine.status().state is State.READY)
    yield engine
    workshop.may_close.set()
    engine.close()


def ready(engine: SwitchingEngine[str], model: str) -> None:
    wait_until(lambda: (engine.status().model, engine.status().state) == (model, State.READY))


def test_one_model_answers_like_any_engine(engine, workshop):
    workshop.made[0].enqueue(["one ", "two"])
    assert "".join(engine.stream(QUESTION)) == "one two"
    engine.expect("me", ())
    assert workshop.made[0].expected == {"me": ()}
    assert engine.composer == "composer of small"


def test_the_old_model_is_closed_before_the_new_one_begins_to_load(engine, workshop):
    assert engine.choose(LARGE)
    ready(engine, "large")
    left = ["small starts", "small is to close", "small closed"]
    assert workshop.happened == [*left, "large starts"]
    assert engine.composer == "composer of large" and engine.settings == LARGE
    assert "".join(engine.stream(QUESTION)) == "An answer."


def test_an_answer_being_written_ends_with_its_text_and_the_word(engine, workshop):
    workshop.made[0].enqueue(["some ", 60.0, "never"])
    stream = engine.stream(QUESTION)
    assert stream.take(WAIT_S) == "some "
    engine.choose(LARGE)
    with pytest.raises(ModelChanged, match="The model was changed to large."):
        stream.take(WAIT_S)
    assert stream.statistics.end is End.BROKEN_OFF and stream.token_ids == (0,)


def test_an_answer_that_had_ended_is_not_told(engine, workshop):
    stream = engine.stream(QUESTION)
    wait_until(lambda: stream.progress.stage is Stage.ENDED)
    engine.choose(LARGE)
    assert "".join(stream) == "An answer."


def test_an_old_stream_stays_what_it_was_after_the_change(engine, workshop):
    workshop.made[0].enqueue(["old ", 60.0])
    old = engine.stream(QUESTION)
    assert old.take(WAIT_S) == "old "
    engine.choose(LARGE)
    ready(engine, "large")
    assert "".join(engine.stream(QUESTION)) == "An answer."
    with pytest.raises(ModelChanged):
        old.take(WAIT_S)
    old.close()


def test_while_the_old_one_leaves_questions_wait_for_the_new_one(engine, workshop):
    workshop.may_close.clear()
    engine.choose(LARGE)
    assert engine.status().state is State.LOADING
    wait_until(lambda: "small is to close" in workshop.happened)
    assert engine.status().doing == "waiting for small to end"
    stream = engine.stream(QUESTION)
    assert "large starts" not in workshop.happened
    workshop.may_close.set()
    ready(engine, "large")
    assert "".join(stream) == "An answer." and engine.status().doing == ""


def test_what_is_chosen_already_is_not_loaded_again(engine, workshop):
    workshop.made[0].enqueue(["some ", 0.2, "more"])
    stream = engine.stream(QUESTION)
    assert not engine.choose(replace(SMALL))
    assert "".join(stream) == "some more" and len(workshop.made) == 1


def test_another_precision_of_the_same_model_is_another_choice(engine, workshop):
    assert engine.choose(replace(SMALL, quantize="int8"))
    wait_until(lambda: workshop.happened.count("small starts") == 2)


def test_a_model_that_failed_can_be_tried_again_or_left(engine, workshop):
    workshop.outcomes["large"] = State.FAILED
    engine.choose(LARGE)
    wait_until(lambda: engine.status().state is State.FAILED)
    with pytest.raises(EngineFailed, match="damaged"):
        engine.stream(QUESTION)
    assert engine.choose(LARGE)
    wait_until(lambda: workshop.happened.count("large starts") == 2)
    assert engine.choose(SMALL)
    ready(engine, "small")
    assert "".join(engine.stream(QUESTION)) == "An answer."


def test_choosing_while_the_last_choice_waits_never_loads_that(engine, workshop):
    workshop.may_close.clear()
    engine.choose(LARGE)
    workshop.made[1].enqueue([60.0])
    stream = engine.stream(QUESTION)
    engine.choose(THIRD)
    with pytest.raises(ModelChanged, match="changed to third"):
        list(stream)
    workshop.may_close.set()
    ready(engine, "third")
    assert "large starts" not in workshop.happened
    assert workshop.happened[-3:] == ["large is to close", "large closed", "third starts"]


def test_many_people_choosing_at_once_end_with_one_model_and_all_others_closed(engine, workshop):
    choices = [Settings(model=f"model {number}") for number in range(24)]
    together = threading.Barrier(len(choices))

    def choose(settings: Settings) -> None:
        together.wait(WAIT_S)
        engine.choose(settings)

    threads = [threading.Thread(target=choose, args=(settings,)) for settings in choices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    ready(engine, engine.settings.model)
    assert [inner.closed for inner in workshop.made] == [True] * len(choices) + [False]
    assert workshop.most_at_once == 1


def test_asking_and_choosing_at_once_leaves_no_reader_without_an_end(engine, workshop):
    ends: list[str] = []

    def ask() -> None:
        for _ in range(20):
            try:
                ends.append("".join(engine.stream(QUESTION)))
            except ModelChanged as error:
                ends.append(error.cause)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(40):
        engine.choose(Settings(model=f"model {number % 3}"))
    for thread in threads:
        thread.join(WAIT_S)
    assert len(ends) == 80
    assert all(end == "An answer." or "changed to model" in end for end in ends)


def test_closing_closes_all_and_starts_nothing_more(engine, workshop):
    workshop.may_close.clear()
    engine.choose(LARGE)
    closing = threading.Thread(target=engine.close)
    closing.start()
    workshop.may_close.set()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert all(inner.closed for inner in workshop.made)
    assert "large starts" not in workshop.happened
    assert not engine.choose(THIRD) and len(workshop.made) == 2
    engine.close()


def test_an_engine_that_was_never_started_closes(workshop):
    engine = SwitchingEngine(SMALL, workshop.make)
    engine.close()
    assert workshop.made[0].closed and workshop.happened[-1] == "small closed"


def test_a_choice_that_cannot_be_made_changes_nothing(engine, workshop):
    def refuse(settings: Settings) -> Inner:
        raise BadCheckpoint("There is no such thing.", "")

    engine._make = refuse
    with pytest.raises(BadCheckpoint):
        engine.choose(LARGE)
    assert engine.settings == SMALL
    assert "".join(engine.stream(QUESTION)) == "An answer."


def test_all_who_read_are_told_the_change_before_the_old_engine_closes(engine, workshop):
    """Whose closing ends streams too, and says no reason."""
    streams = []
    for _ in range(2):
        workshop.made[0].enqueue(["some ", 60.0])
        streams.append(engine.stream(QUESTION))
        assert streams[-1].take(WAIT_S) == "some "
        streams[-1].call_on_close(lambda: workshop.closing.wait(0.3))
    engine.choose(LARGE)
    for stream in streams:
        with pytest.raises(ModelChanged):
            stream.take(WAIT_S)
