"""A simulated crowd waits as theory says, and an engine at hand is timed as it answers."""

import random
from statistics import mean

import pytest

from backend.engine import State
from benchmarks import sizing
from benchmarks.crowd import (
    THINKING_S,
    Service,
    Site,
    enough_engines,
    estimate_engines,
    fewest_engines,
    slow_first_word,
    wait_for_first_words,
)
from benchmarks.sizing import find_pace, make_requests, size, time_answer, wait_until_ready
from benchmarks.suite import NAMES
from tests.fakes import FakeEngine

QUICK = (Service(0.5, 2.0),)


def response_s(people: int, places: int, service_s: float) -> float:
    """Seconds from asking to the end in the closed queue M/M/c with a finite crowd, exactly."""
    weights = [1.0]  # of the states with so many people at the engine
    for there in range(1, people + 1):
        asking = (people - there + 1) / THINKING_S
        weights.append(weights[-1] * asking * service_s / min(there, places))
    total = sum(weights)
    answered_per_s = sum(
        weight / total * min(there, places) / service_s for there, weight in enumerate(weights)
    )
    return people / answered_per_s - THINKING_S


@pytest.mark.parametrize(("people", "places"), [(10, 1), (30, 1), (60, 4)])
def test_a_crowd_waits_as_queueing_theory_says(people: int, places: int) -> None:
    chance = random.Random(0)
    service_s = 2.0
    # The end counts as the first word, so that a wait is a whole response.
    times = [chance.expovariate(1 / service_s) for _ in range(20_000)]
    scale = service_s / mean(times)
    site = Site([Service(time * scale, time * scale) for time in times], places, engines=1)
    waited = [wait for seed in range(20) for wait in wait_for_first_words(site, people, seed)]
    assert mean(waited) == pytest.approx(response_s(people, places, service_s), rel=0.06)


def test_a_lone_person_never_waits_for_others() -> None:
    assert set(wait_for_first_words(Site(QUICK, 1, 1), people=1, seed=0)) == {0.5}


def test_a_crowd_is_the_same_for_the_same_seed() -> None:
    site = Site(QUICK, 1, 2)
    assert wait_for_first_words(site, 50, seed=1) == wait_for_first_words(site, 50, seed=1)
    assert wait_for_first_words(site, 50, seed=1) != wait_for_first_words(site, 50, seed=2)


def test_engines_and_places_shorten_the_wait() -> None:
    crowded = slow_first_word(Site(QUICK, 1, 1), 60, seed=0)
    assert slow_first_word(Site(QUICK, 1, 4), 60, seed=0) < crowded / 2
    assert slow_first_word(Site(QUICK, 4, 1), 60, seed=0) < crowded / 2


def test_engines_are_doubled_until_they_are_enough() -> None:
    steps = list(enough_engines(QUICK, 1, 200, most_s=5.0, seeds=(0, 1)))
    assert [engines for engines, _ in steps] == [2**power for power in range(len(steps))]
    assert all(max(slow) > 5.0 for _, slow in steps[:-1]) and max(steps[-1][1]) <= 5.0
    # The arithmetic must lie where the simulation does: within one doubling.
    assert steps[-1][0] / 2 <= estimate_engines(QUICK, 1, 200) <= steps[-1][0] * 2


def test_the_fewest_engines_are_found_between_two_doublings() -> None:
    fewest = fewest_engines(QUICK, 1, 200, most_s=5.0)
    assert slow_first_word(Site(QUICK, 1, fewest), 200, seed=0) <= 5.0
    assert slow_first_word(Site(QUICK, 1, fewest - 1), 200, seed=0) > 5.0


def test_a_crowd_that_is_never_served_counts_as_waiting() -> None:
    assert slow_first_word(Site(QUICK, 1, 1), 2000, seed=0) > 1000


def test_what_no_number_of_engines_reaches_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.crowd.MOST_ENGINES", 4)
    steps = list(enough_engines(QUICK, 1, 10, most_s=0.1, seeds=(0,)))
    assert [engines for engines, _ in steps] == [1, 2, 4]


def test_an_answer_is_timed_to_its_first_word_and_to_its_end(tmp_path) -> None:
    engine = FakeEngine()
    engine.enqueue([0.05, "first", 0.2, "last"])
    service = time_answer(engine, next(make_requests(tmp_path)))
    assert 0.05 <= service.first_s < service.whole_s and service.whole_s >= 0.25


def test_an_engine_is_asked_at_once_as_often_as_it_gains(tmp_path) -> None:
    engine = FakeEngine()  # each request has a thread of its own: all it is asked at once
    for _ in range(200):
        engine.enqueue([0.1, "word"])
    at_once, services = find_pace(engine, make_requests(tmp_path), tries=16)
    assert at_once > 1 and len(services) >= 16
    pictures = {request.conversation.attachments[0].path for request in engine.requests}
    assert len(pictures) == len(engine.requests)


def test_a_size_tells_the_engine_and_each_crowd() -> None:
    lines = list(size(FakeEngine(), (10, 100), tries=2))
    assert "first word" in lines[0].name and "whole" in lines[1].name
    assert [line.name.split(",")[0] for line in lines[2:]] == ["10 people", "100 people"]
    assert all(line.goal and line.goal.holds for line in lines[2:])


def test_an_engine_that_failed_is_not_timed() -> None:
    engine = FakeEngine()
    engine.become(State.FAILED, reason="The device caught fire.")
    with pytest.raises(RuntimeError, match="caught fire"):
        wait_until_ready(engine)


def test_an_engine_elsewhere_is_sized(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, ...]] = []

    class Remote(FakeEngine):
        def __init__(self, settings) -> None:
            super().__init__()
            asked.append(settings.engines)

        def start(self) -> None:
            """Ready."""

    monkeypatch.setattr("backend.remote.engine.RemoteEngine", Remote)
    words = ["--engine", "http://127.0.0.1:9/v1", "--people", "20", "--tries", "2"]
    assert sizing.main(words) == 0
    assert asked == [("http://127.0.0.1:9/v1",)]
    assert "20 people, 1 × this engine" in capsys.readouterr().out


def test_the_suite_knows_it() -> None:
    assert "sizing" in NAMES
