"""Stopping is measured on the real engine: here once each, for what is counted and not how long."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import stop, stop_lab
from benchmarks.material import ask, long_question
from benchmarks.stop_lab import Lab, Try, Waited
from benchmarks.watched import start_watched


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    engine, watch = start_watched()
    folder = tmp_path_factory.mktemp("pictures")
    yield Lab(engine, watch, ask(*long_question(folder, pictures=2, words=2), most=64))
    engine.close()


def test_a_stop_while_writing_begins_no_second_step(lab: Lab) -> None:
    (tried,) = lab.stop_writing(1)
    assert tried.steps_after <= 1
    assert tried.idle_s > 0
    assert tried.step_s > 0


def test_a_stop_in_prefill_comes_before_the_first_token(lab: Lab) -> None:
    (tried,) = lab.stop_reading(1)
    assert not lab.watch.runs[-1].stream.token_ids
    assert tried.layers_after <= 1
    assert tried.layer_s > 0


def test_a_stop_in_the_queue_is_never_answered(lab: Lab) -> None:
    (waited,) = lab.stop_waiting(1)
    assert not waited.begun


def test_the_long_question_is_of_many_tiles(lab: Lab) -> None:
    assert lab.engine.composer is not None
    budget = lab.engine.composer.measure(lab.long.conversation)
    assert budget.tiles == 26


def test_nothing_stops_the_cards_way(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_lab, "ANSWER", 64)
    monkeypatch.setattr(stop_lab, "WRITING_S", 0.01)
    lab.leave_card(1)
    ours, card = lab.watch.runs[-2:]
    assert len(card.steps) == 64 > len(ours.steps)


def test_a_step_too_many_misses_every_goal() -> None:
    slow = Try(idle_s=0.3, step_s=0.1, layer_s=0.1, steps_after=2, layers_after=9)
    begun = Waited(free_s=0.3, step_s=0.1, begun=True)
    figures = [
        *stop.report_writing([slow]),
        *stop.report_reading([slow]),
        *stop.report_waiting([begun]),
    ]
    assert len(figures) == 7
    assert not any(figure.goal.holds for figure in figures if figure.goal)


def test_figures_are_in_milliseconds_beside_a_decode_step() -> None:
    quick = Try(idle_s=0.002, step_s=0.01, layer_s=0.02, steps_after=0, layers_after=0)
    figure = stop.in_steps("Stop", [quick])
    assert figure.ratio is not None
    assert figure.rival is not None
    assert (figure.ours.median, figure.rival.median, figure.ratio.median) == (2, 10, 0.2)


def test_pictures_are_the_same_every_time(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        long_question(tmp_path / folder, pictures=1, words=1)
    assert (tmp_path / "a" / "0.jpg").read_bytes() == (tmp_path / "b" / "0.jpg").read_bytes()
