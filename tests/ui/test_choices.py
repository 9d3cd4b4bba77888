"""What the settings panel says is believed only once it was checked."""

from typing import Any

import pytest

from backend.errors import BadSetting
from ui.choices import Choices, number, read_choices, read_seed, whole

UNTOUCHED: dict[str, Any] = {
    "system": "",
    "temperature": 0,
    "top_p": 1,
    "top_k": 0,
    "repetition_penalty": 1,
    "max_new_tokens": 1024,
    "seed": "",
    "max_tiles": 0,
    "layout": "separate",
}


def test_an_untouched_panel_leaves_all_to_the_checkpoint() -> None:
    assert read_choices(**UNTOUCHED) == Choices()
    assert read_choices(**UNTOUCHED | {"system": " \n"}) == Choices()
    assert read_choices(**UNTOUCHED | {"max_tiles": 40}) == Choices(max_tiles=40)


@pytest.mark.parametrize("tiles", [-1, 41])
def test_a_number_of_tiles_out_of_range_is_refused(tiles: int) -> None:
    with pytest.raises(BadSetting, match="max tiles"):
        read_choices(**UNTOUCHED | {"max_tiles": tiles})


@pytest.mark.parametrize(
    ("typed", "seed"), [("", None), (None, None), ("  ", None), (" 7 ", 7), ("0", 0), (12, 12)]
)
def test_a_seed_is_read_as_typed(typed: object, seed: int | None) -> None:
    assert read_seed(typed) == seed


@pytest.mark.parametrize("typed", ["-1", "1.5", "x", "²", "٣", "1_0", True])
def test_a_seed_that_is_no_whole_number_is_refused(typed: object) -> None:
    with pytest.raises(BadSetting, match="seed must be a whole number"):
        read_seed(typed)


@pytest.mark.parametrize("sent", [True, "1", None, [1]])
def test_what_is_no_number_is_refused_by_its_name(sent: object) -> None:
    with pytest.raises(BadSetting, match="top-p must be a number"):
        number("top-p", sent)


@pytest.mark.parametrize("sent", [1.5, float("nan"), float("inf"), float("-inf")])
def test_what_is_not_whole_is_refused_by_its_name(sent: float) -> None:
    with pytest.raises(BadSetting, match="top-k must be a whole number"):
        whole("top-k", sent)
    assert whole("top-k", 12.0) == 12
