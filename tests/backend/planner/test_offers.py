"""The menu of models: what each needs, whether it fits, and what would."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backend.offers import Offer
from backend.planner import offers
from backend.planner.choose import plan_wanted
from backend.planner.costs import CONTEXT, Demand, Precision, Quantization
from backend.planner.devices import CPU, GB, Device, Machine, in_gb, make_gpus
from backend.planner.offers import Offers, models_beside
from backend.planner.plan import plan_devices
from backend.planner.sizes import SIZES
from backend.settings import Settings
from tests.backend.checkpoint.folders import ORIGINAL, copy_small_files
from tests.backend.checkpoint.recorded_pieces import RECORDED
from tests.backend.planner.loras import write_lora

NAMES = ("bundled", "1B", "2B", "8B", "9B", "14B", "38B", "78B")
GIVEN = Settings()
TWO_CARDS = Machine(make_gpus(24, 24), Device(CPU, 64 * GB))


def menu(
    settings: Settings = GIVEN, machine: Machine = TWO_CARDS, quantize: str | None = None
) -> dict[str, Offer]:
    listed = Offers(settings, lambda: machine, here=lambda model: model == "1B").list(quantize)
    return {offer.name: offer for offer in listed.offers}


def test_the_bundled_one_and_the_seven_sizes_are_offered_in_order() -> None:
    assert tuple(menu()) == NAMES
    assert [offer.settings.model for offer in menu().values()] == list(NAMES)
    assert Offers(Settings(), lambda: TWO_CARDS).list(None).machine == "2 × 24 GB"


@pytest.mark.parametrize("quantize", [None, "int8", "nf4"])
def test_needs_and_fits_are_the_planner_s(quantize: str | None) -> None:
    offered = menu(quantize=quantize)
    for shape in SIZES:
        precision = Precision(quantize=Quantization(quantize) if quantize else None)
        plan = plan_devices(Demand(shape, precision), TWO_CARDS)
        assert offered[shape.name].needs == in_gb(plan.used_bytes)
        assert offered[shape.name].fits is plan.fits
        assert offered[shape.name].settings.quantize == quantize


def test_what_does_not_fit_says_why_and_what_would() -> None:
    offered = menu()
    assert offered["38B"].needs == "90 GB" and offered["38B"].reason == "too large"
    assert offered["38B"].remedy == "in nf4 or on 2 × 48 GB"
    assert offered["14B"].fits and offered["14B"].reason == offered["14B"].remedy == ""
    assert menu(quantize="nf4")["38B"].fits
    assert menu(quantize="nf4")["78B"].remedy == "on 1 × 80 GB"
    uneven = Machine(make_gpus(4, 24), Device(CPU, 64 * GB))
    single = menu(Settings(strategy="card"), uneven)["8B"]
    assert single.reason == "cuda:0 would hold 12 GB and has 4 GB"
    nearly = Machine(cpu=Device(CPU, int(36.6 * GB)))
    assert menu(Settings(dtype="bfloat16"), nearly)["14B"].reason == "just too large"


def test_what_is_not_here_says_what_comes() -> None:
    offered = menu()
    assert {name: offer.comes for name, offer in offered.items()} == {
        "bundled": "",
        "1B": "",
        "2B": "4.2 GB",
        "8B": "16 GB",
        "9B": "18 GB",
        "14B": "30 GB",
        "38B": "77 GB",
        "78B": "157 GB",
    }


def test_the_9b_and_what_is_like_it_may_be_chosen_as_experimental(tmp_path: Path) -> None:
    offered = menu()
    assert offered["9B"].fits
    assert [name for name, offer in offered.items() if offer.note] == ["9B"]
    folder = RECORDED[0].write_checkpoint(tmp_path / "mine")
    assert menu(Settings(model=str(folder)))["mine"].note == offered["9B"].note == "experimental"
    assert not menu(Settings(model=str(copy_small_files(ORIGINAL, tmp_path / "other"))))[
        "other"
    ].note


def test_a_folder_given_at_start_is_offered_too(tmp_path: Path) -> None:
    folder = copy_small_files(ORIGINAL, tmp_path / "mine")
    adapter = write_lora(tmp_path / "lora", layers=3, rank=2, rows=8, columns=8)
    settings = Settings(model=str(folder), adapter=str(adapter), context=512)
    offered = menu(settings)
    assert tuple(offered) == ("mine", *NAMES)
    assert offered["mine"].settings == settings and offered["mine"].fits
    assert offered["2B"].settings == replace(settings, model="2B", adapter=None)


def test_an_adapter_counts_with_its_own_model_where_it_is_not_merged(tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "lora", layers=28, rank=9, rows=1, columns=10**6)
    given = Settings(model="2B", adapter=str(adapter))
    for quantize, layers in ((None, 0), ("nf4", 28)):
        plan = plan_wanted(SIZES[1], replace(given, quantize=quantize), TWO_CARDS)
        bare = plan_wanted(SIZES[1], Settings(quantize=quantize), TWO_CARDS)
        assert plan.weights_bytes - bare.weights_bytes == 2 * 9 * (10**6 + 1) * layers
        dressed, plain = menu(given, quantize=quantize), menu(quantize=quantize)
        assert dressed["2B"].needs == in_gb(plan.used_bytes)
        assert dressed["14B"] == replace(plain["14B"], settings=dressed["14B"].settings)


def test_an_adapter_that_is_none_is_told_in_the_list(tmp_path: Path) -> None:
    offered = menu(Settings(model="2B", adapter=str(tmp_path / "none")))
    assert offered["2B"].reason == f"There is no folder {tmp_path / 'none'}." and offered["1B"].fits


def test_a_given_size_keeps_its_revision_and_others_do_not_get_it() -> None:
    settings = Settings(model="OpenGVLab/InternVL3-2B-hf", revision="v1", context=CONTEXT)
    assert models_beside(settings.model) == (*NAMES[:2], settings.model, *NAMES[3:])
    offered = menu(settings)
    assert offered["OpenGVLab/InternVL3-2B-hf"].settings == settings
    assert offered["8B"].settings.revision is None
    assert offered["8B"].settings.context == CONTEXT
    assert offered["bundled"].settings.context is None  # it has 2,048 tokens


def test_a_folder_that_is_no_checkpoint_is_offered_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    offered = menu(Settings(model=str(tmp_path)))
    assert "not an InternVL" in offered[tmp_path.name].reason
    assert offered["2B"].fits


def test_a_repository_never_seen_is_offered_without_a_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offers, "find_facts_here", lambda model: None)
    (first, *_) = menu(Settings(model="someone/their-model")).values()
    assert (first.name, first.needs, first.comes) == ("their-model", "", "size not known")
    assert first.fits


def test_whatever_fails_in_looking_is_told_to_whoever_opens_the_list() -> None:
    def look() -> Machine:
        raise ValueError("an odd driver")

    with pytest.raises(ValueError, match="an odd driver"):
        Offers(GIVEN, look).list(None)
