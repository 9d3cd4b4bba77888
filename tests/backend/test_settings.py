"""Settings are checked when they are made, and their choices are the planner's."""

import pytest

from backend.errors import BadSetting
from backend.planner.costs import Dtype, Quantization
from backend.planner.plan import Strategy
from backend.settings import AUTO, DTYPES, QUANTIZATIONS, STRATEGIES, Settings


def test_choices_are_those_of_the_planner() -> None:
    assert (AUTO, *Dtype) == DTYPES
    assert tuple(Quantization) == QUANTIZATIONS
    # Offloading is not chosen but allowed, as --offload.
    assert {*STRATEGIES, "offload"} == set(Strategy)


@pytest.mark.parametrize(
    ("choices", "refusal"),
    [
        ({"decoder": "opencv"}, "no decoder 'opencv'. Choose from av, decord"),
        ({"dtype": "int4"}, "no dtype 'int4'. Choose from auto, bfloat16"),
        ({"attention": "flash"}, "no attention 'flash'. Choose from auto, sdpa"),
        ({"quantize": "fp8"}, "no quantisation 'fp8'. Choose from int8, nf4"),
        ({"strategy": "offload"}, "no strategy 'offload'. Choose from balanced, card"),
        ({"context": 255}, "context is 255. Choose a value from 256"),
    ],
)
def test_a_choice_that_is_none_is_named(choices: dict[str, str], refusal: str) -> None:
    with pytest.raises(BadSetting, match=refusal):
        Settings(**choices)  # type: ignore[arg-type]
