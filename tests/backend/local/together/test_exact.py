"""Answers in a crowd are those given alone, token by token, whoever comes, goes or fails."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import End
from backend.errors import EngineFailed
from backend.local.together.batch import Batch
from backend.local.together.size import Size
from backend.stream import AnswerStream
from tests.backend.local.golden import FOLDER
from tests.backend.local.together.crowd import Case, Workshop, talk

# So tight that questions are read in parts, wait for pages, and push kept prefixes out.
TIGHT = Size(places=5, pages=56, page=16, chunk=48)


class Crowd:
    """Lets cases come and go at random, and looks at how each of them ends."""

    def __init__(self, workshop: Workshop, batch: Batch, cases: list[Case], seed: int) -> None:
        self.chance = random.Random(seed)
        self.workshop = workshop
        self.batch = batch
        self.waiting = list(cases)
        self.inside: dict[AnswerStream, Case] = {}
        self.outcomes: list[str] = []
        self.kept = 0

    def run(self, disturb: Callable[["Crowd"], None] = lambda crowd: None) -> None:
        """Until everybody has been inside."""
        while self.waiting or self.inside:
            while self.waiting and self.chance.random() < 0.5 and self.let_in():
                continue
            disturb(self)
            for ended in self.batch.step():
                self.look_at(ended.stream, ended.outcome)

    def let_in(self) -> bool:
        if len(self.batch) == self.batch.places:
            return False
        stream = self.workshop.join(self.batch, self.waiting[0].request)
        if stream is not None:
            self.inside[stream] = self.waiting.pop(0)
        return stream is not None

    def look_at(self, stream: AnswerStream, outcome: Any) -> None:
        case = self.inside.pop(stream)
        if stream.closed or not isinstance(outcome, End):
            assert outcome is End.STOPPED or isinstance(outcome, EngineFailed)
            assert stream.token_ids == case.ids[: len(stream.token_ids)]
            self.outcomes.append("stopped" if stream.closed else "failed")
            return
        stream.finish(outcome)
        assert (stream.token_ids, "".join(stream), outcome) == (case.ids, case.text, case.end)
        assert stream.statistics is not None
        self.kept += stream.statistics.cached_tokens
        self.outcomes.append("right")


@pytest.fixture(scope="module", params=[BUNDLED_FOLDER, FOLDER / "qknorm-112"], ids=["hf", "orig"])
def workshop(request: pytest.FixtureRequest) -> Workshop:
    folder: Path = request.param
    return Workshop(folder)


@pytest.fixture(scope="module")
def cases(workshop: Workshop) -> list[Case]:
    return list(talk(workshop, 105, seed=5))


def test_random_requests_in_a_tight_crowd_are_answered_as_alone(
    workshop: Workshop, cases: list[Case]
) -> None:
    crowd = Crowd(workshop, workshop.open_batch(TIGHT), cases, seed=1)
    crowd.run()
    assert crowd.outcomes == ["right"] * len(cases)
    assert crowd.kept > 0


def test_stops_and_failing_steps_leave_every_other_answer_right(
    workshop: Workshop, cases: list[Case]
) -> None:
    """Streams are closed at random, and now and then a step fails and ends those inside."""

    def disturb(crowd: Crowd) -> None:
        if crowd.inside and crowd.chance.random() < 0.2:
            crowd.chance.choice(list(crowd.inside)).close()
        if crowd.inside and crowd.chance.random() < 0.06:
            handle = workshop.network.lm_head.register_forward_pre_hook(_break)
            handles.append(handle)

    def _break(*_: object) -> None:
        handles.pop().remove()
        raise RuntimeError("evil step")

    handles: list[Any] = []
    batch = workshop.open_batch(TIGHT)
    crowd = Crowd(workshop, batch, cases[:60], seed=2)
    crowd.run(disturb)
    for handle in handles:
        handle.remove()
    assert len(crowd.outcomes) == 60
    assert min(map(crowd.outcomes.count, ("right", "stopped", "failed"))) > 3
    assert len(batch) == 0 and batch._steps.promised == 0


def test_new_numbers_for_pictures_do_not_mix_them_up(workshop: Workshop, cases: list[Case]) -> None:
    """When the ids above the vocabulary are used up, everybody leaves and they begin anew."""
    batch = workshop.open_batch(TIGHT)
    batch._rows._most = 8
    begun_anew: list[int] = []
    clear = batch._rows.clear
    batch._rows.clear = lambda: (begun_anew.append(1), clear())[1]  # type: ignore[method-assign]
    seeing = [case for case in cases if case.request.conversation.attachments][:20]
    crowd = Crowd(workshop, batch, seeing, seed=3)
    crowd.run()
    assert crowd.outcomes == ["right"] * len(seeing)
    assert begun_anew
