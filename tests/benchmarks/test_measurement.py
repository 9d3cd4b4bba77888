"""The arithmetic of measurements."""

import gc

import pytest

from benchmarks.measurement import (
    Pair,
    Spread,
    alternate,
    at_least,
    at_most,
    ours_of,
    rival_of,
    share_of,
    spread,
    times_better,
)


def test_a_spread_holds_least_median_p99_and_most() -> None:
    assert spread([float(number) for number in range(1, 201)]) == Spread(1, 100.5, 198, 200)


def test_the_p99_of_fifty_tries_is_the_worst() -> None:
    assert spread(range(50)).p99 == 49


def test_a_ratio_is_taken_try_by_try_and_not_from_the_medians() -> None:
    pairs = [Pair(ours=1, rival=10), Pair(ours=2, rival=4), Pair(ours=4, rival=12)]
    assert times_better(pairs) == Spread(2, 3, 10, 10)
    assert share_of([Pair(ours=3, rival=2), Pair(ours=1, rival=2)]) == Spread(0.5, 1, 1.5, 1.5)


def test_figures_are_scaled_to_their_unit() -> None:
    pairs = [Pair(ours=0.002, rival=0.004)]
    assert ours_of(pairs, 1e3).median == 2
    assert rival_of(pairs, 1e3).median == 4


@pytest.mark.parametrize(("figure", "holds"), [(1.9, False), (2.0, True), (2.1, True)])
def test_a_least_goal_holds_from_its_bound_on(figure: float, holds: bool) -> None:
    assert at_least(figure, 2).holds is holds


@pytest.mark.parametrize(("figure", "holds"), [(0.4, True), (0.5, True), (0.6, False)])
def test_a_most_goal_holds_up_to_its_bound(figure: float, holds: bool) -> None:
    goal = at_most(figure, 0.5, "s", "p99")
    assert (goal.text, goal.holds) == ("p99 ≤ 0.5 s", holds)


def test_both_are_run_in_turn_and_change_places() -> None:
    order: list[str] = []
    pairs = alternate(lambda: order.append("ours"), lambda: order.append("rival"), 2, lambda: 0.0)
    assert order == ["ours", "rival", "rival", "ours"]
    assert pairs == [Pair(0, 0), Pair(0, 0)]


def test_time_is_told_apart_between_ours_and_the_rival() -> None:
    now = 0.0

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    pairs = alternate(lambda: pass_time(1), lambda: pass_time(5), 2, lambda: now)
    assert pairs == [Pair(1, 5), Pair(1, 5)]


def test_garbage_is_collected_again_after_work_that_failed() -> None:
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        alternate(fail, fail, 1)
    assert gc.isenabled()
