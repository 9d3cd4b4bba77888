import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from transformers import DynamicCache

from backend.errors import OutOfMemory
from backend.planner.costs import Demand, Dtype, Precision
from backend.planner.devices import CPU, GB, Device, Machine, make_gpus
from backend.planner.plan import Plan, Strategy, plan_devices
from backend.planner.sizes import SIZES, find_size
from backend.planner.turn import most_prompt_tokens, refuse_turn_if_too_big, turn_bytes
from tests.backend.planner.real_models import LiveBytes, build, read_back, small_config
from tests.backend.planner.test_costs import TOKENS, read


def plan_of(name: str, *gpus: float, strategy: Strategy = Strategy.BALANCED) -> Plan:
    shape = find_size(name)
    assert shape is not None
    machine = Machine(make_gpus(*gpus), Device(CPU, 200 * GB))
    return plan_devices(Demand(shape), machine, strategy)


def test_a_question_that_fits_is_let_through() -> None:
    plan, free = plan_of("8B", 24), {"cuda:0": 6 * GB}
    assert most_prompt_tokens(plan, free, 1024, 13) >= 3_500
    refuse_turn_if_too_big(plan, free, 3_500, 1024, 13)


def test_a_question_that_would_not_fit_is_refused_with_numbers_and_the_remedy() -> None:
    plan = plan_of("8B", 24)
    with pytest.raises(OutOfMemory) as refusal:
        refuse_turn_if_too_big(plan, {"cuda:0": GB}, 16_000, 1024, 64)
    assert str(refusal.value).startswith(
        "This question of 16,000 tokens needs 3.5 GB beside the model, and cuda:0 has 1 GB free. "
        "Ask with at most "
    )
    most = most_prompt_tokens(plan, {"cuda:0": GB}, 1024, 64)
    assert f"at most {most:,} tokens" in refusal.value.advice
    refuse_turn_if_too_big(plan, {"cuda:0": GB}, most, 1024, 64)


def test_a_device_without_any_room_is_told_as_such() -> None:
    with pytest.raises(OutOfMemory, match="Close other programs"):
        refuse_turn_if_too_big(plan_of("8B", 24), {"cuda:0": 1000}, 100, 16, 1)


def test_sixty_four_frames_take_no_more_in_the_tower_than_a_batch() -> None:
    plan = plan_of("38B", 80, 80)
    batch, video = (turn_bytes(plan, 20, 1, tiles)["cuda:0"] for tiles in (16, 64))
    assert video == batch


def test_a_device_that_only_stores_is_not_counted() -> None:
    plan = plan_of("14B", 24, strategy=Strategy.OFFLOAD)
    assert list(turn_bytes(plan, 1000, 100, 13)) == ["cuda:0"]


@settings(derandomize=True, deadline=None)
@given(
    some.sampled_from(SIZES),
    some.lists(some.floats(8, 90), min_size=1, max_size=4),
    some.integers(1, 16_000),
    some.integers(1, 4096),
    some.integers(0, 64),
    some.floats(0.01, 2),
)
def test_a_question_is_refused_exactly_when_a_device_lacks_room(
    shape: object, gpus: list[float], prompt: int, new: int, tiles: int, share: float
) -> None:
    plan = plan_devices(Demand(shape), Machine(make_gpus(*gpus)))  # type: ignore[arg-type]
    needs = turn_bytes(plan, prompt, new, tiles)
    free = int(share * max(needs.values()))
    room = dict.fromkeys(needs, free)
    if max(needs.values()) <= free:
        refuse_turn_if_too_big(plan, room, prompt, new, tiles)
        assert most_prompt_tokens(plan, room, new, tiles) >= prompt
    else:
        with pytest.raises(OutOfMemory):
            refuse_turn_if_too_big(plan, room, prompt, new, tiles)
        assert most_prompt_tokens(plan, room, new, tiles) < prompt


def test_a_real_question_takes_what_is_reckoned() -> None:
    config = small_config()
    model = build(config, torch.float32)
    with LiveBytes(model.parameters()) as live:
        read(model, torch.float32, DynamicCache())
    demand = Demand(read_back(config), Precision(Dtype.FLOAT32), 1024)
    plan = plan_devices(demand, Machine(cpu=Device(CPU, GB)))
    need = turn_bytes(plan, TOKENS, 1, tiles=0)[CPU]
    assert live.peak <= need <= live.peak * 1.08  # 5 % stand for fragmentation
