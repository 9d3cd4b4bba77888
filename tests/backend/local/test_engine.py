"""The engine around a scripted model: order, faults, stopping, loading. No torch is needed."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from backend.conversation import End
from backend.engine import Progress, Stage, State
from backend.errors import (
    BadCheckpoint,
    BadFile,
    BadQuestion,
    EngineBusy,
    EngineFailed,
    OutOfMemory,
    TooLong,
)
from backend.local.engine import PREPARING_THREADS, LocalEngine
from backend.local.waiting import Manner
from backend.local.worker import Batching
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.local.stand_ins import (
    WAIT_S,
    HeldBatch,
    InstantMedia,
    ScriptedModel,
    ask,
    instant_composer,
    scripted_engine,
)
from tests.waiting import wait_until


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel()


@pytest.fixture
def engine(model: ScriptedModel) -> Iterator[LocalEngine]:
    engine = scripted_engine(model)
    yield engine
    model.gate.set()
    engine.close()


def read(stream: AnswerStream) -> str:
    return "".join(stream)


def reading(engine: LocalEngine, model: ScriptedModel) -> AnswerStream:
    """A request that the model has begun to read and will read until the gate opens."""
    model.gate.clear()
    stream = engine.stream(ask("held"))
    wait_until(lambda: stream.progress.stage is Stage.READING)
    return stream


def test_an_answer_comes_with_its_ids_and_statistics(engine: LocalEngine) -> None:
    stream = engine.stream(ask("hello", images=2))
    assert read(stream) == "hello"
    assert stream.token_ids == (0, 1, 2, 3, 4)
    assert stream.statistics is not None
    assert stream.statistics.end is End.EOS
    assert stream.statistics.visual_tokens == 32
    assert stream.statistics.prompt_tokens > 32


def test_two_sessions_are_never_mixed(engine: LocalEngine, model: ScriptedModel) -> None:
    words = [f"canary of {number}" for number in range(12)]
    answers: dict[str, str] = {}

    def talk(word: str) -> None:
        answers[word] = read(engine.stream(ask(word, session=word)))

    threads = [threading.Thread(target=talk, args=(word,)) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {word: word for word in words}
    assert model.most_at_once == 1
    assert model.threads == {"model"}


def test_many_questions_of_one_delay_another_by_at_most_one(
    engine: LocalEngine, model: ScriptedModel
) -> None:
    held = reading(engine, model)
    streams = [engine.stream(ask(f"many {n}", session="many")) for n in range(8)]
    single = engine.stream(ask("single", session="single"))
    wait_until(lambda: all(s.progress.stage is Stage.WAITING for s in (*streams, single)))
    assert single.progress.ahead == 2  # the one that runs, and one of the many
    model.gate.set()
    for stream in (held, *streams, single):
        read(stream)
    assert model.answered[:3] == ["held", "many 0", "single"]


def test_the_place_in_the_queue_is_kept_current(engine: LocalEngine, model: ScriptedModel) -> None:
    held = reading(engine, model)
    first, second = (engine.stream(ask(word)) for word in ("first", "second"))
    wait_until(lambda: second.progress == Progress(Stage.WAITING, ahead=2))
    assert engine.status().waiting == 2
    first.close()
    assert second.progress == Progress(Stage.WAITING, ahead=1)
    model.gate.set()
    assert read(held) == "held"
    assert read(second) == "second"
    assert "first" not in model.answered


def test_a_full_queue_refuses_and_takes_again_later(model: ScriptedModel) -> None:
    engine = scripted_engine(model, max_queue=2)
    held = reading(engine, model)
    streams = [engine.stream(ask(word)) for word in ("a", "b")]
    with pytest.raises(EngineBusy, match="2 questions wait already"):
        engine.stream(ask("c"))
    model.gate.set()
    assert [read(stream) for stream in (held, *streams)] == ["held", "a", "b"]
    assert read(engine.stream(ask("c"))) == "c"
    engine.close()


@pytest.mark.parametrize("written", [None, 0, 1, 10])
def test_an_exception_reaches_the_reader_and_the_next_request_answers(
    engine: LocalEngine,
    model: ScriptedModel,
    caplog: pytest.LogCaptureFixture,
    written: int | None,
) -> None:
    def evil(now: int | None) -> None:
        if now == written:
            raise RuntimeError("secret of /home/person/model.py at 0x7f")

    model.fail = evil
    stream = engine.stream(ask("twelve letters and more"))
    text = []
    with caplog.at_level(logging.ERROR), pytest.raises(EngineFailed) as failure:
        text.extend(stream)
    assert "".join(text) == "twelve letters and more"[: written or 0]
    assert stream.progress.stage is Stage.ENDED
    check_message(failure.value, caplog)
    assert model.recovered == 1
    model.fail = lambda now: None
    assert read(engine.stream(ask("next", session="other"))) == "next"


def check_message(error: EngineFailed, caplog: pytest.LogCaptureFixture) -> None:
    """It names an error that the log tells more about, and leaks nothing."""
    message = str(error)
    number = message.partition("error ")[2][:6]
    assert number in caplog.text
    assert "Traceback" in caplog.text
    assert not any(leak in message for leak in ("/", "0x", "Traceback", "secret"))
    assert error.__cause__ is None and error.__context__ is None
    assert all(record.exc_info is None for record in caplog.records), "it would keep tensors"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_told_apart(
    engine: LocalEngine, model: ScriptedModel, error: Exception
) -> None:
    def evil(now: int | None) -> None:
        raise error

    model.fail = evil
    with pytest.raises(OutOfMemory, match="3 tiles and .* tokens .*Use fewer tiles"):
        read(engine.stream(ask("look", images=3)))
    assert model.recovered == 1
    model.fail = lambda now: None
    assert read(engine.stream(ask("next"))) == "next"


@pytest.mark.parametrize("make", [MemoryError, lambda: EngineFailed("It broke.", "Ask again.")])
def test_memory_is_freed_when_no_traceback_holds_it_any_more(
    engine: LocalEngine, model: ScriptedModel, make: Callable[[], Exception]
) -> None:
    alive: set[str] = set()

    class Tensor:
        def __init__(self) -> None:
            alive.add("tensor")

        def __del__(self) -> None:
            alive.discard("tensor")

    def evil(now: int | None) -> None:
        tensor = Tensor()
        assert tensor is not None
        raise make()

    at_recovery: list[set[str]] = []
    model.fail = evil
    model.recover = lambda short: at_recovery.append(set(alive))  # type: ignore[method-assign]
    with pytest.raises(EngineFailed):
        read(engine.stream(ask("look")))
    wait_until(lambda: bool(at_recovery))
    assert at_recovery == [set()]


def test_a_dead_device_is_told_to_all(model: ScriptedModel) -> None:
    def evil(now: int | None) -> None:
        model.gate.wait(WAIT_S)
        raise RuntimeError("device-side assert")

    engine = scripted_engine(model)
    model.gate.clear()
    model.fail = evil
    model.recover = lambda short: evil(None)  # type: ignore[method-assign]
    streams = [engine.stream(ask(word)) for word in ("a", "b")]
    wait_until(lambda: streams[1].progress.stage is Stage.WAITING)
    model.gate.set()
    with pytest.raises(EngineFailed, match="The model failed"):
        read(streams[0])
    with pytest.raises(EngineFailed, match="device stopped working .* Restart"):
        read(streams[1])
    wait_until(lambda: engine.status().state is State.FAILED)
    with pytest.raises(EngineFailed, match="device stopped working"):
        engine.stream(ask("c"))
    engine.close()


def crowd(model: ScriptedModel, words: str) -> tuple[LocalEngine, HeldBatch, list[AnswerStream]]:
    """An engine with a batch in which somebody asks each of the words."""
    batch = HeldBatch()
    batch.places = len(words)
    model.batching = Batching(batch, always=True)
    engine = scripted_engine(model)
    streams = [engine.stream(ask(word, session=word)) for word in words]
    wait_until(lambda: len(batch) == len(words))
    return engine, batch, streams


def test_what_fails_outside_any_answer_ends_all_with_a_word(
    model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    def evil() -> None:
        raise KeyError("secret")

    engine, batch, streams = crowd(model, "ab")
    batch.fail = evil
    streams.append(engine.stream(ask("c")))
    batch.gate.set()
    for stream in streams:
        with pytest.raises(EngineFailed, match=r"stopped \(error .* Restart") as failure:
            read(stream)
        check_message(failure.value, caplog)
    wait_until(lambda: engine.status().state is State.FAILED)
    with pytest.raises(EngineFailed, match="The engine stopped"):
        engine.stream(ask("d"))
    engine.close()


def test_the_device_recovers_once_from_a_step_that_broke_for_all(model: ScriptedModel) -> None:
    engine, batch, streams = crowd(model, "abc")
    batch.outcome = OutOfMemory("No room.", "Ask less.")
    batch.gate.set()
    for stream in streams:
        with pytest.raises(OutOfMemory):
            read(stream)
    wait_until(lambda: model.recovered)
    batch.outcome = End.EOS
    assert read(engine.stream(ask("d"))) == ""
    assert model.recovered == 1 and model.was_short
    engine.close()


def test_where_all_are_answered_together_one_who_is_alone_is_too(model: ScriptedModel) -> None:
    batch = HeldBatch()
    batch.gate.set()
    model.batching = Batching(batch, always=True)
    engine = scripted_engine(model)
    assert read(engine.stream(ask("a"))) == ""
    assert batch.steps and not model.answered
    engine.close()


def test_one_for_whom_the_batch_has_no_room_yet_is_not_served_until_it_has(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = HeldBatch()
    manners = iter((Manner.LATER, Manner.ALONE))
    judged: list[Manner] = []

    def judge(*_: object) -> Manner:
        judged.append(next(manners))
        return judged[-1]

    monkeypatch.setattr(batch, "judge", judge)
    model.batching = Batching(batch)
    engine = scripted_engine(model)
    stream = engine.stream(ask("a"))
    wait_until(lambda: judged)
    engine._line.wake()
    assert read(stream) == "a"
    assert judged == [Manner.LATER, Manner.ALONE]
    engine.close()


def test_stop_while_writing_keeps_the_text_and_frees_the_model(
    engine: LocalEngine, model: ScriptedModel
) -> None:
    reached, go = threading.Event(), threading.Event()

    def pause(now: int | None) -> None:
        if now == 3:
            reached.set()
            go.wait(WAIT_S)

    model.fail = pause
    stream = engine.stream(ask("abcdef"))
    assert reached.wait(WAIT_S)
    stream.close()
    assert read(stream) == "abc"
    assert stream.statistics is not None and stream.statistics.end is End.STOPPED
    go.set()
    model.fail = lambda now: None
    assert read(engine.stream(ask("next"))) == "next"
    assert model.answered == ["next"]


def test_stop_while_the_model_reads_frees_it_and_is_no_error(
    engine: LocalEngine, model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    held = reading(engine, model)
    held.close()
    assert read(held) == ""
    wait_until(lambda: model.at_once == 0)
    model.gate.set()
    assert read(engine.stream(ask("next"))) == "next"
    assert model.recovered == 0 and not caplog.records


def test_stop_in_the_queue_means_it_is_never_begun(
    engine: LocalEngine, model: ScriptedModel
) -> None:
    held = reading(engine, model)
    waiting = engine.stream(ask("waiting"))
    waiting.close()
    assert read(waiting) == "" and engine.status().waiting == 0
    assert waiting.statistics is None
    model.gate.set()
    read(held)
    read(engine.stream(ask("next")))
    assert model.answered == ["held", "next"]


def test_stop_while_preparing_ends_the_preparation_and_is_no_error(
    model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    media = InstantMedia(tile=112)
    engine = scripted_engine(model, composer=instant_composer(media=media))
    media.gate.clear()
    looks: list[int] = []
    look = media.look
    media.look = lambda *given: (looks.append(1), look(*given))[1]  # type: ignore[method-assign]
    stuck = [engine.stream(ask("stuck", images=1)) for _ in range(PREPARING_THREADS)]
    wait_until(lambda: len(looks) == PREPARING_THREADS)
    for stream in stuck:
        stream.close()
    free = engine.stream(ask("next"))  # has no file, but needs a thread to prepare it
    try:
        wait_until(lambda: "next" in model.answered)
    finally:
        media.gate.set()
    assert read(free) == "next"
    assert [read(stream) for stream in stuck] == ["", ""]
    assert model.answered == ["next"]
    engine.close()
    assert not caplog.records


def test_stop_twice_after_the_end_and_of_another_changes_nothing(
    engine: LocalEngine, model: ScriptedModel
) -> None:
    finished = engine.stream(ask("finished", session="a"))
    assert read(finished) == "finished"
    other = reading(engine, model)
    for _ in range(2):
        finished.close()
    assert finished.statistics is not None and finished.statistics.end is End.EOS
    assert other.progress.stage is Stage.READING
    model.gate.set()
    assert read(other) == "held"
    stopped = reading(engine, model)
    for _ in range(2):
        stopped.close()
    assert stopped.statistics is not None and stopped.statistics.end is End.STOPPED


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (ask(" "), BadQuestion),
        (ask("word " * 3000), TooLong),
    ],
)
def test_a_bad_question_is_told_and_others_go_on(
    engine: LocalEngine, request_: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        read(engine.stream(request_))
    assert engine.status().waiting == 0
    assert read(engine.stream(ask("next"))) == "next"


def test_a_bad_file_is_told_and_others_go_on(model: ScriptedModel) -> None:
    media = InstantMedia(tile=112)
    engine = scripted_engine(model, composer=instant_composer(media=media))
    for raised, told in (
        (BadFile("cat.png", "is empty.", "Choose another."), BadFile),
        (ValueError("in /home/person"), EngineFailed),
    ):

        def broken(*_: Any, raised: Exception = raised) -> Any:
            raise raised

        media.tiles = broken  # type: ignore[method-assign]
        with pytest.raises(told) as failure:
            read(engine.stream(ask("look", images=1)))
        assert "/" not in str(failure.value)
    assert read(engine.stream(ask("next"))) == "next"
    engine.close()


def test_questions_asked_while_loading_wait_and_are_answered() -> None:
    model, loaded = ScriptedModel(), threading.Event()

    def load(settings: Settings, composer: Any, report: Callable[[float], None]) -> ScriptedModel:
        report(0.25)
        assert loaded.wait(WAIT_S)
        return model

    engine = LocalEngine(Settings(), load, lambda settings: instant_composer())
    assert engine.status().state is State.LOADING
    engine.start()
    stream = engine.stream(ask("early"))
    wait_until(lambda: stream.progress == Progress(Stage.WAITING, ahead=0))
    wait_until(lambda: engine.status().share == 0.25)
    assert engine.composer is not None
    loaded.set()
    assert read(stream) == "early"
    status = engine.status()
    assert (status.state, status.share, status.device) == (State.READY, 1.0, "cpu")
    engine.close()


@pytest.mark.parametrize(
    ("raised", "told", "words"),
    [
        (BadCheckpoint("It lacks weights.", "Download it."), BadCheckpoint, "It lacks weights."),
        (RuntimeError("at /home/x"), EngineFailed, "could not be loaded"),
        (MemoryError(), OutOfMemory, "do not fit into memory"),
        (ModuleNotFoundError("x", name="torch"), EngineFailed, "torch is not installed here"),
        (ModuleNotFoundError("x", name="ours"), EngineFailed, "could not be loaded"),
    ],
)
def test_a_failed_load_is_told_to_those_who_wait_and_to_all_later(
    raised: Exception, told: type[EngineFailed], words: str
) -> None:
    asked = threading.Event()

    def load(*_: Any) -> ScriptedModel:
        assert asked.wait(WAIT_S)
        raise raised

    engine = LocalEngine(Settings(), load, lambda settings: instant_composer())
    engine.start()
    early = engine.stream(ask("early"))
    asked.set()
    with pytest.raises(told, match=words):
        read(early)
    wait_until(lambda: engine.status().state is State.FAILED)
    assert words in engine.status().reason and "/home" not in engine.status().reason
    for _ in range(2):
        with pytest.raises(told, match=words):
            engine.stream(ask("late"))
    engine.close()


def test_a_checkpoint_that_is_not_there_is_told() -> None:
    engine = LocalEngine(Settings(model="no-such-model"))
    engine.start()
    wait_until(lambda: engine.status().state is State.FAILED)
    assert "no-such-model" in engine.status().reason
    with pytest.raises(BadCheckpoint):
        engine.stream(ask("anybody?"))
    engine.close()


def test_closing_ends_every_request_and_every_thread(model: ScriptedModel) -> None:
    before = set(threading.enumerate())
    engine = scripted_engine(model)
    held = reading(engine, model)
    waiting = engine.stream(ask("waiting"))
    engine.close()
    assert [read(stream) for stream in (held, waiting)] == ["", ""]
    assert set(threading.enumerate()) <= before
    assert engine.status().state is State.READY, "nothing failed"
    with pytest.raises(EngineFailed, match="closed"):
        engine.stream(ask("late"))
    engine.close()


def test_closing_while_loading_ends_the_loading() -> None:
    begun = threading.Event()

    def load(settings: Settings, composer: Any, report: Callable[[float], None]) -> ScriptedModel:
        for _ in range(WAIT_S * 100):
            report(0.5)
            begun.set()
            time.sleep(0.01)
        raise AssertionError("nobody stopped the loading")

    engine = LocalEngine(Settings(), load, lambda settings: instant_composer())
    engine.start()
    assert begun.wait(WAIT_S)
    engine.close()
    assert engine.status().state is State.LOADING


def test_the_engine_is_there_before_torch() -> None:
    program = (
        "import sys\n"
        "from backend.local.engine import LocalEngine\n"
        "from backend.settings import Settings\n"
        "LocalEngine(Settings())\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_an_engine_left_open_does_not_keep_the_program_alive() -> None:
    program = (
        "from tests.backend.local.stand_ins import *\n"
        "model = ScriptedModel()\n"
        "model.gate.clear()\n"
        "engine = scripted_engine(model)\n"
        "engine.stream(ask('for ever'))\n"
        "engine.stream(ask('after that'))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


@pytest.mark.parametrize("loaded", [True, False])
def test_what_devices_keep_is_given_back_at_the_end_where_there_was_a_network(
    loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    devices = SimpleNamespace(give_back=lambda: given.append("all"))
    monkeypatch.setitem(sys.modules, "backend.local.devices", devices)
    if loaded:
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    else:
        monkeypatch.delitem(sys.modules, "torch", raising=False)
    scripted_engine(ScriptedModel()).close()
    assert given == ["all"] * loaded
