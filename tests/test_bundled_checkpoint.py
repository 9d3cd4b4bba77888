"""The bundled checkpoint answers rightly what it offers and declines what it does not.

Greedy answers on scenes of the second renderer, whose shades, sizes and fonts it never saw in
training. The bars are below the card's figures, since twelve answers of a kind are few: the
weakest kinds stand at 80 of a hundred, which is 8 to 11 of twelve.
"""

import json
from pathlib import Path

import av
import pytest
from PIL import Image

from training.evaluate import Examinee, Result, overlap, share_right
from training.lessons import film_head, pair_head
from training.scenes import squeeze
from training.sequences import PICTURE, Dialogue
from training.system_prompts import OFFICIAL
from training.trials import DECLINED, KINDS, Trial, make_trials

SAMPLES = 12
REFUSED_SAMPLES = 6
LEAST_OF_A_KIND = 2 / 3
EXAMPLES = Path(__file__).parents[1] / "assets" / "examples"
OFFERED = [kind for kind in KINDS if kind not in DECLINED]
FRAMES = 8
SEED = 7


@pytest.fixture(scope="module")
def examinee() -> Examinee:
    return Examinee()


@pytest.fixture(scope="module")
def answered(examinee: Examinee) -> dict[str, list[Result]]:
    samples = {kind: REFUSED_SAMPLES if kind in DECLINED else SAMPLES for kind in KINDS}
    trials = [
        trial
        for kind, count in samples.items()
        for trial in make_trials(kind, "renderer", count, SEED)
    ]
    by_kind: dict[str, list[Result]] = {}
    for result in examinee.answer(trials):
        by_kind.setdefault(result.trial.kind, []).append(result)
    return by_kind


def complaints(results: list[Result]) -> str:
    return "\n".join(
        f"{result.trial.dialogue.turns[-1][0]} → {result.answer} (not: {result.trial.wanted})"
        for result in results
        if not result.is_right
    )


@pytest.mark.parametrize("kind", OFFERED)
def test_it_answers_what_it_offers(answered: dict[str, list[Result]], kind: str) -> None:
    right = sum(result.is_right for result in answered[kind])
    assert right >= LEAST_OF_A_KIND * SAMPLES, complaints(answered[kind])


def test_nine_of_ten_answers_that_it_offers_are_right(answered: dict[str, list[Result]]) -> None:
    results = [result for kind in OFFERED for result in answered[kind]]
    assert share_right(results) >= 90, complaints(results)


@pytest.mark.parametrize("kind", sorted(DECLINED))
def test_it_declines_what_it_cannot(answered: dict[str, list[Result]], kind: str) -> None:
    right = sum(result.is_right for result in answered[kind])
    assert right >= 0.8 * REFUSED_SAMPLES, complaints(answered[kind])


def read_frames(path: Path) -> list[Image.Image]:
    """`FRAMES` pictures, each from the middle of its part of the film."""
    with av.open(str(path)) as container:
        pictures = [frame.to_image() for frame in container.decode(video=0)]
    return [pictures[int((number + 0.5) * len(pictures) / FRAMES)] for number in range(FRAMES)]


def example_trial(example: dict[str, object]) -> Trial:
    files = [EXAMPLES / str(name) for name in example["files"]]
    if files[0].suffix == ".mp4":
        pictures, head = read_frames(files[0]), film_head(FRAMES)
    else:
        pictures = [Image.open(file).convert("RGB") for file in files]
        head = pair_head(False) if len(files) > 1 else PICTURE.format(1) + "\n"
    turns = ((str(example["question"]), str(example["says"])),)
    tiles = tuple(squeeze(picture) for picture in pictures)
    return Trial("example", Dialogue(head, turns, OFFICIAL), tiles)


def test_every_example_of_the_page_gets_its_right_words(examinee: Examinee) -> None:
    examples = json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8"))
    assert len(examples) >= 3
    results = examinee.answer(example_trial(example) for example in examples)
    wrong = [result for result in results if not result.is_right]
    assert not wrong, complaints(wrong)


def test_a_box_is_right_only_with_its_name_and_half_its_overlap() -> None:
    box = "<ref>red star</ref><box>[[{}, 0, {}, 100]]</box>"
    assert overlap(box.format(0, 100), box.format(0, 100)) == 1
    assert overlap(box.format(0, 100), box.format(50, 150)) == pytest.approx(1 / 3)
    assert overlap(box.format(0, 100).replace("red", "blue"), box.format(0, 100)) == 0
    assert overlap("a star", box.format(0, 100)) == 0
