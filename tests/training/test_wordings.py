"""What is kept for the evaluation is never trained, and every wording can be filled in."""

import random

import pytest

from training.chatter import CHAT_TOPICS, TOPICS
from training.comparisons import ask_about_film, ask_about_pair, draw_pair
from training.films import draw_film
from training.oddities import draw_oddity, draw_sign
from training.questions import ABOUT_ODDITIES, ABOUT_SCENES, ABOUT_SIGNS, ask_about_scene
from training.scenes import draw_scene
from training.wordings import Wordings, load_wordings

FAMILIES = ("picture", "film", "pair", "chat")
OFFERED = {
    "picture": [
        "describe",
        "list",
        "count",
        "count_form",
        "count_colour",
        "colour",
        "form",
        "where",
        "at",
        "box",
    ],
    "film": ["moves", "direction", "tell"],
    "pair": ["differences", "one", "more"],
}


def plain(text: str) -> str:
    """As it is typed in a hurry: so that no two wordings differ by capitals or marks alone."""
    return text.lower().strip(" ?.!")


def all_wordings() -> list[tuple[str, str, Wordings]]:
    return [
        (family, kind, pool)
        for family in FAMILIES
        for kind, pool in load_wordings(family).items()
        if kind != "babble"
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_held_wordings_never_appear_among_trained_ones(family: str) -> None:
    pools = load_wordings(family)
    trained = {wording for pool in pools.values() for wording in pool.trained}
    held = {wording for pool in pools.values() for wording in pool.held}
    assert held
    assert not trained & held


def test_within_a_kind_no_held_wording_is_a_trained_one_typed_in_a_hurry() -> None:
    for family, kind, pool in all_wordings():
        both = {plain(text) for text in pool.trained} & {plain(text) for text in pool.held}
        assert not both, (family, kind, both)


def test_offered_kinds_have_twelve_wordings_and_three_held_back() -> None:
    for family, kinds in OFFERED.items():
        for kind in kinds:
            pool = load_wordings(family)[kind]
            assert len(set(pool.trained)) >= 12, (family, kind)
            assert len(set(pool.held)) >= 3, (family, kind)


def test_every_topic_of_small_talk_has_words() -> None:
    assert set(load_wordings("chat")) == set(TOPICS)
    assert all(load_wordings("chat")[topic].held for topic in CHAT_TOPICS)


@pytest.mark.parametrize("held", [False, True], ids=["trained", "held"])
def test_every_kind_asks_a_whole_question_with_an_answer(held: bool) -> None:
    rng = random.Random(1)
    asked = []
    for draw, about in (
        (draw_scene, ABOUT_SCENES),
        (draw_sign, ABOUT_SIGNS),
        (draw_oddity, ABOUT_ODDITIES),
    ):
        for kind in about:
            asked += [ask_about_scene(rng, draw(rng), kind, held) for _ in range(6)]
    asked += [ask_about_pair(rng, draw_pair(rng), kind, held) for kind in load_wordings("pair")]
    asked += [ask_about_film(rng, draw_film(rng), kind, held) for kind in load_wordings("film")]
    exchanges = [exchange for exchange in asked if exchange is not None]
    assert len(exchanges) > 100
    for exchange in exchanges:
        assert "{" not in exchange.question + exchange.answer
        assert exchange.answer.strip() == exchange.answer != ""
