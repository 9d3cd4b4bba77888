"""What may be kept is a share of what a long question leaves free, unless a person says it."""

import pytest

from backend.local.memory.room import UNTOLD, kept_bytes
from backend.planner.devices import GB
from backend.planner.plan import Strategy
from backend.planner.turn import turn_bytes
from tests.backend.planner.test_turn import plan_of


@pytest.mark.parametrize(("wanted", "kept"), [(0, 0), (0.5, GB // 2), (40, 40 * GB)])
def test_what_a_person_says_holds(wanted: float, kept: int) -> None:
    assert kept_bytes(wanted, plan_of("8B", 24), {"cuda:0": GB}) == kept


def test_the_longest_question_s_room_is_left_alone() -> None:
    plan = plan_of("8B", 24)
    (need,) = turn_bytes(plan, plan.demand.context - 1, 1, plan.demand.tiles).values()
    assert kept_bytes(None, plan, {"cuda:0": need}) == 0 == kept_bytes(None, plan, {"cuda:0": 0})
    assert kept_bytes(None, plan, {"cuda:0": need + 6 * GB}) == 1.5 * GB


def test_several_gpus_are_taken_together() -> None:
    plan = plan_of("38B", 80, 80)
    free = {name: 20 * GB for name in ("cuda:0", "cuda:1")}
    assert kept_bytes(None, plan, free) > kept_bytes(None, plan, free | {"cuda:1": 10 * GB}) > 0


def test_where_nobody_tells_what_is_free_little_is_kept() -> None:
    assert kept_bytes(None, plan_of("1B", strategy=Strategy.CPU), {}) == UNTOLD
