"""Answers made on GPUs that are lent to one question at a time, in forks as `spaces` makes them.

Run by `test_zero.py` in a process of its own.
"""

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from backend.conversation import Conversation, End, Request, Sampling, Turn
from backend.engine import State
from backend.errors import BadFile, BadSetting, EngineFailed, OutOfMemory
from backend.local import zero
from backend.local.engine import LocalEngine
from backend.local.model import LocalModel
from backend.local.preparation import prepare
from backend.local.zero import MOST_S, Piece, ZeroEngine, seconds_for
from backend.media.recognise import attach
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.local.adapters import draw_pairs, leave_unmerged
from tests.backend.local.golden import FOLDER
from tests.backend.local.lent_gpus import LentGpus, Refusal, visitor

ROOT = Path(__file__).parents[3]
PICTURE = ROOT / "assets" / "examples" / "night.png"
SMALL = FOLDER / "qknorm-112"
EXACT = Settings(dtype="float32")
WAIT_S = 60.0


def request(question: str, most: int = 24, session: str = "one") -> Request:
    turn = Turn(question, (attach(str(PICTURE)),))
    return Request(Conversation().asked(turn), Sampling(max_new_tokens=most), session)


def started(engine: LocalEngine) -> LocalEngine:
    engine.start()
    until = time.monotonic() + WAIT_S
    while engine.status().state is State.LOADING and time.monotonic() < until:
        time.sleep(0.02)
    assert engine.status().state is State.READY, engine.status().reason
    return engine


@pytest.fixture(scope="module")
def gpus() -> Iterator[LentGpus]:
    lent = LentGpus()
    yield lent
    lent.end()


@pytest.fixture(scope="module")
def engine(gpus: LentGpus) -> Iterator[LocalEngine]:
    """With the bundled checkpoint, whose forks fail for some questions."""
    patch = pytest.MonkeyPatch()
    answer = LocalModel.answer

    def fail_or_answer(self: LocalModel, prepared: Any, stream: AnswerStream, *rest: Any) -> End:
        question = stream.request.conversation.turns[-1].question
        if "no room" in question:
            raise OutOfMemory("The device has no room for this.", "Use fewer tiles.")
        if "crash" in question:
            raise RuntimeError("secret words")
        return answer(self, prepared, stream, *rest)

    patch.setattr(LocalModel, "answer", fail_or_answer)
    made = ZeroEngine(EXACT, gpus, device="cpu")
    assert gpus.decorated == 1, "too late for a Space, which looks when the page is served"
    yield started(made)
    made.close()
    patch.undo()


def test_two_answers_are_those_of_the_local_engine(engine: LocalEngine, gpus: LentGpus) -> None:
    local = started(LocalEngine(EXACT))
    for question in ("Please describe the image in detail.", "How many shapes are there?"):
        there, here = engine.stream(request(question)), local.stream(request(question))
        assert "".join(there) == "".join(here) != ""
        assert there.token_ids == here.token_ids
        told = there.statistics
        assert told and here.statistics and told.end is here.statistics.end
        assert told.visual_tokens == here.statistics.visual_tokens > 0 and told.ttft_s > 0
    local.close()
    assert gpus.pids[-1] == gpus.pids[-2], "a fork that is idle is used again"
    assert os.getpid() not in gpus.pids


def test_stop_ends_the_work_in_the_fork_and_the_next_question_is_answered(
    engine: LocalEngine, gpus: LentGpus
) -> None:
    stream = engine.stream(request("Please describe the image in detail.", most=1024))
    assert next(iter(stream))
    stream.close()
    assert "".join(engine.stream(request("How many shapes are there?")))
    # A fork comes back only when its generator was closed, and that waits for its model.
    assert gpus.pids[-1] == gpus.pids[-2]
    assert stream.statistics and stream.statistics.end is End.STOPPED


def test_an_error_of_the_model_keeps_its_words(engine: LocalEngine) -> None:
    with pytest.raises(OutOfMemory, match="no room for this. Use fewer tiles."):
        list(engine.stream(request("Is there no room?")))
    assert "".join(engine.stream(request("How many shapes are there?")))


def test_an_exception_in_a_fork_is_told_without_its_words(engine: LocalEngine) -> None:
    with pytest.raises(EngineFailed, match="before the first token") as caught:
        list(engine.stream(request("Will you crash?")))
    assert "secret" not in str(caught.value)
    assert "".join(engine.stream(request("How many shapes are there?")))


def test_a_gpu_that_is_taken_away_is_told_and_another_answers(
    engine: LocalEngine, gpus: LentGpus
) -> None:
    stream = engine.stream(request("Please describe the image in detail.", most=1024))
    assert next(iter(stream))
    os.kill(gpus.pids[-1], signal.SIGSTOP)  # or it might be through before it is killed
    os.kill(gpus.pids[-1], signal.SIGKILL)
    with pytest.raises(EngineFailed, match="could not be had: GPU task aborted"):
        list(stream)
    assert "".join(engine.stream(request("How many shapes are there?")))
    assert gpus.pids[-1] != gpus.pids[-2]


def test_a_quota_that_is_used_up_is_told_in_plain_words(
    engine: LocalEngine, gpus: LentGpus
) -> None:
    gpus.refusal = Refusal("You have exceeded your quota. <a href='x'>Sign in</a>")
    try:
        with pytest.raises(EngineFailed, match=r"exceeded your quota\. Sign in \(error"):
            list(engine.stream(request("How many shapes are there?")))
    finally:
        gpus.refusal = None


def test_a_gpu_is_asked_for_on_behalf_of_the_visitor(engine: LocalEngine, gpus: LentGpus) -> None:
    def ask(name: str) -> None:
        visitor.set(name)
        list(engine.stream(request("How many shapes are there?", session=name)))

    for name in ("anna", "bert"):
        thread = threading.Thread(target=copy_context().run, args=(ask, name))
        thread.start()
        thread.join()
    assert gpus.visitors[-2:] == ["anna", "bert"]


def test_seconds_asked_for_follow_the_budget(engine: LocalEngine, gpus: LentGpus) -> None:
    assert engine.composer is not None
    short, long = (
        prepare(engine.composer, AnswerStream(request("Hello?", most))) for most in (16, 1024)
    )
    assert 15 < seconds_for(short, request("Hello?")) < seconds_for(long, request("Hello?"))
    assert seconds_for(replace(long, room=100_000), request("Hello?")) == MOST_S
    list(engine.stream(request("Hello?", most=16)))
    assert gpus.durations[-1] == seconds_for(short, request("Hello?"))


def test_the_status_says_where_it_answers(engine: LocalEngine) -> None:
    status = engine.status()
    assert (status.device, status.precision) == ("ZeroGPU", "float32")


def test_a_checkpoint_left_unmerged_answers_as_in_the_local_engine(tmp_path: Path) -> None:
    gpus = LentGpus()  # whose forks have another checkpoint
    pairs = draw_pairs(load_file(SMALL / "model.safetensors"))
    unmerged = leave_unmerged(SMALL, tmp_path / "unmerged", pairs)
    turn = Turn("How many shapes are there?")
    asked = Request(Conversation().asked(turn), Sampling(max_new_tokens=12))
    own, base = (replace(EXACT, model=str(folder)) for folder in (unmerged, SMALL))
    told = []
    for engine in (ZeroEngine(own, gpus, device="cpu"), LocalEngine(own), LocalEngine(base)):
        started(engine)
        stream = engine.stream(asked)
        "".join(stream)
        told.append(stream.token_ids)
        engine.close()
    gpus.end()
    assert told[0] == told[1] != told[2]


def test_who_asked_longest_ago_is_forgotten_first(
    gpus: LentGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zero, "MOST_SESSIONS", 2)
    engine = ZeroEngine(EXACT, gpus)
    for session in ("anna", "bert", "anna", "carl"):
        engine.stream(request("Hello?", session=session))
    assert list(engine._contexts) == ["anna", "carl"]
    engine.close()


def test_weights_are_in_half_precision_and_what_cannot_be_is_refused(gpus: LentGpus) -> None:
    assert ZeroEngine(Settings(), gpus)._settings.dtype == "bfloat16"
    with pytest.raises(BadSetting, match="quantised"):
        ZeroEngine(Settings(quantize="int8"), gpus)
    with pytest.raises(BadSetting, match="one question at a time"):
        ZeroEngine(Settings(batching="on"), gpus)
    with pytest.raises(BadSetting, match="compiled"):
        ZeroEngine(Settings(compile="on"), gpus)


def test_errors_travel_between_processes_whole() -> None:
    error = BadFile("a.png", "is cut.", "Send it again.")
    (sent,) = pickle.loads(pickle.dumps((Piece(error=error),)))
    assert str(sent.error) == str(error) and type(sent.error) is BadFile
