"""Which models and which requests can be answered together."""

from typing import Any

import pytest
import torch

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import Sampling
from backend.errors import BadSetting
from backend.local.together.ability import must_be_alone, why_one_at_a_time
from backend.local.together.opening import open_batching
from backend.local.together.size import PAGE, Size, bytes_per_token, fit
from backend.planner.configs import read_shape
from backend.planner.costs import Demand
from backend.planner.devices import CPU, GB, Device, Machine, make_gpus
from backend.planner.plan import Plan, plan_devices

FULL = ("full_attention",)


@pytest.mark.parametrize(
    ("devices", "attention", "quantised", "layers", "reason"),
    [
        (["cpu"], "sdpa", False, FULL, ""),
        (["cuda:0"], "flash_attention_2", False, FULL, ""),
        (["cuda:0", "cuda:1"], "sdpa", False, FULL, "spread over several devices"),
        (["cuda:0", "cpu"], "sdpa", False, FULL, "spread over several devices"),
        (["mps"], "sdpa", False, FULL, "on mps it was not tried"),
        (["cpu"], "sdpa", True, FULL, "quantised weights"),
        (["cpu"], "eager", False, FULL, "attention eager"),
        (["cpu"], "sdpa", False, (*FULL, "sliding_attention"), "only a part"),
    ],
)
def test_a_model_says_why_it_answers_one_at_a_time(
    devices: Any, attention: str, quantised: bool, layers: Any, reason: str
) -> None:
    told = why_one_at_a_time(devices, attention, quantised, layers)
    assert reason in told and bool(told) == bool(reason)


def test_a_request_says_whether_it_is_answered_alone() -> None:
    assert must_be_alone(Sampling(repetition_penalty=1.1))
    assert must_be_alone(Sampling(temperature=1, seed=1))
    for easy in (Sampling(), Sampling(seed=1), Sampling(temperature=1), Sampling(stop=("x",))):
        assert not must_be_alone(easy)


def plan(machine: Machine) -> Plan:
    return plan_devices(Demand(read_shape(BUNDLED_FOLDER, "bundled"), context=2048), machine)


def test_a_batch_takes_a_bounded_share_of_what_is_free() -> None:
    on_cpu = plan(Machine(cpu=Device(CPU, 8 * GB)))
    plenty = fit(on_cpu, 2048, lambda name: 8 * GB)
    assert plenty.tokens == plenty.places * 2048
    scarce = fit(on_cpu, 2048, lambda name: 100_000_000)
    assert 0 < scarce.tokens < plenty.tokens
    assert scarce.tokens * bytes_per_token(on_cpu) <= 50_000_000
    assert fit(on_cpu, 2048, lambda name: 0).pages == 0


def test_a_gpu_answers_more_at_once_and_several_gpus_none() -> None:
    one = fit(plan(Machine(make_gpus(8))), 2048, lambda name: 8 * GB)
    assert one.places > fit(plan(Machine(cpu=Device(CPU, GB * 8))), 2048, lambda n: 8 * GB).places
    assert one.tokens % PAGE == 0


def test_insisting_where_it_cannot_be_is_refused_with_the_reason() -> None:
    loaded: Any = _Loaded()
    with pytest.raises(BadSetting, match="--batching on cannot be had: .*room for 0 tokens"):
        open_batching("on", loaded, Size(places=8, pages=0))
    told = open_batching("auto", loaded, Size(places=8, pages=0))
    assert told.batch is None
    assert str(told).startswith("one at a time: beside the model there is room for 0 tokens")
    assert str(open_batching("off", loaded, Size(places=8, pages=0))).startswith("one at a time")


class _Loaded:
    """A model on one device, as far as that is looked at."""

    class facts:
        context_length = 2048

    class network:
        device = torch.device("cpu")

        class config:
            @staticmethod
            def get_text_config(decoder: bool) -> Any:
                class text:
                    _attn_implementation = "sdpa"
                    layer_types = FULL

                return text

        @staticmethod
        def parameters() -> Any:
            return iter(())
