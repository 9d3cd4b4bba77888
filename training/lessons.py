"""The mix that is trained: which pictures, which questions, in what order, under which prompt."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from training.chatter import ask_without_picture, chat
from training.comparisons import ask_about_film, ask_about_pair, draw_pair
from training.films import draw_film
from training.labels import label_patches
from training.oddities import draw_oddity, draw_sign
from training.questions import REFUSALS, Exchange, ask_about_scene
from training.scenes import TILE, Scene, draw_scene
from training.sequences import PICTURE, Dialogue, Row, encode_row
from training.system_prompts import choose_system
from training.tokenizer import Codec
from training.wordings import load_wordings

Pair = tuple[Scene, Scene]
Next = Callable[[], tuple[str, str, bool]]

SCENE_WEIGHTS = {
    "describe": 3.0, "list": 3.0, "count": 1.2, "count_form": 3.0, "count_colour": 1.2,
    "colour": 2.5, "form": 1.2, "where": 2.6, "at": 1.6, "background": 0.6, "exists": 1.6,
    "box": 6.0, "any_text": 0.2, "read": 0.25, "relation": 0.9, "size": 0.3, "all_boxes": 0.3,
}  # fmt: skip
SIGN_WEIGHTS = {
    "read": 2.0, "any_text": 0.5, "describe": 1.0, "list": 1.0, "background": 0.5, "count": 0.3,
}  # fmt: skip
ODDITY_WEIGHTS = {
    "describe": 2.0, "list": 2.0, "count": 1.0, "background": 0.7, "exists": 1.0, "read": 1.0,
    "where": 0.5, "colour": 0.5,
}  # fmt: skip
PAIR_WEIGHTS = {"differences": 3.0, "one": 2.0, "more": 2.0, "common": 0.7, "other": 0.5}
FILM_WEIGHTS = {
    "moves": 3.0, "direction": 3.0, "tell": 2.5, "background": 0.4, "still": 0.6, "other": 0.7,
}  # fmt: skip
SUMMARIES = ("describe", "list", "differences", "tell")
SEPARATE_SHARE = 0.65
SMALL_TALK_SHARE = 0.06
MOST_TURNS = 10


@dataclass(frozen=True)
class Lesson:
    """One row with its tiles, and the patch labels of those tiles that have any."""

    row: Row
    tiles: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray | None, ...]


@dataclass(frozen=True)
class Subject:
    """Pictures to talk about: their part of the first question, and a source of exchanges."""

    head: str
    tiles: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray | None, ...]
    ask: Callable[[], Exchange]


def fuzz(rng: random.Random, question: str) -> str:
    """How people type: no capitals, no final mark, a greeting, a typing error."""
    if "<ref>" in question or "<image" in question:
        return question
    chance = rng.random()
    if chance < 0.10:
        question = question.lower()
    elif chance < 0.18:
        question = question.rstrip("?.!")
    elif chance < 0.26:
        question = question.lower().rstrip("?.!")
    elif chance < 0.30:
        question = rng.choice(("Please tell me: ", "Hi! ", "And ", "Now: ", "Okay. ")) + question
    elif chance < 0.32:
        question += rng.choice((" Thanks.", " Please.", " Thank you!"))
    if rng.random() < 0.03 and len(question) > 6:
        place = rng.randrange(1, len(question) - 1)
        letter, after = question[place], question[place + 1]
        slip = rng.choice((letter * 2, "", after + letter))
        question = question[:place] + slip + question[place + 1 :]
    return question


def _choose(rng: random.Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def ask_scene(rng: random.Random, scene: Scene) -> Exchange:
    """Any question that the picture allows."""
    weights = {"sign": SIGN_WEIGHTS, "oddity": ODDITY_WEIGHTS}.get(scene.kind, SCENE_WEIGHTS)
    while True:
        exchange = ask_about_scene(rng, scene, _choose(rng, weights))
        if exchange is not None:
            return exchange


def _label(scene: Scene) -> np.ndarray | None:
    return label_patches(scene) if scene.kind in ("shapes", "frame") else None


def _one(rng: random.Random, scene: Scene) -> Subject:
    head = PICTURE.format(1) + "\n"
    return Subject(head, scene.tiles, (_label(scene),), lambda: ask_scene(rng, scene))


def _tiled(rng: random.Random) -> Subject:
    """A picture cut into tiles, the thumbnail last, as dynamic_preprocess of the card does."""
    scene = draw_scene(rng)
    columns, rows = rng.choice(((2, 1), (2, 1), (1, 2), (2, 2), (3, 1), (3, 2)))
    size = TILE * columns, TILE * rows
    large = np.asarray(scene.picture.resize(size, Image.Resampling.BICUBIC))
    tiles = large.reshape(rows, TILE, columns, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
    head = PICTURE.format(len(tiles) + 1) + "\n"
    labels = (None,) * len(tiles) + (_label(scene),)
    return Subject(head, (*tiles, *scene.tiles), labels, lambda: ask_scene(rng, scene))


def pair_head(combined: bool) -> str:
    one, two = PICTURE.format(1), PICTURE.format(2)
    return f"{two}\n" if combined else f"Image-1: {one}\nImage-2: {one}\n"


def _pair(rng: random.Random) -> Subject:
    pair = draw_pair(rng)
    tiles, labels = _join_pair(pair)
    return Subject(
        pair_head(rng.random() < 0.35),
        tiles,
        labels,
        lambda: ask_about_pair(rng, pair, _choose(rng, PAIR_WEIGHTS)),
    )


def _join_pair(pair: Pair) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray | None, ...]]:
    return pair[0].tiles + pair[1].tiles, (_label(pair[0]), _label(pair[1]))


def film_head(frame_count: int, hyphen: str = "") -> str:
    one = PICTURE.format(1)
    return "".join(f"Frame{hyphen}{number + 1}: {one}\n" for number in range(frame_count))


def _film(rng: random.Random) -> Subject:
    film = draw_film(rng, frame_count=1 if rng.random() < 0.03 else None)
    weights = FILM_WEIGHTS
    if len(film.frames) == 1:
        weights = {"moves": 1.0, "direction": 1.0, "tell": 1.0}
    return Subject(
        film_head(len(film.frames), "-" if rng.random() < 0.1 else ""),
        film.tiles,
        tuple(_label(frame) for frame in film.frames),
        lambda: ask_about_film(rng, film, _choose(rng, weights)),
    )


def _refused(rng: random.Random, head: str, tiles: tuple[np.ndarray, ...], why: str) -> Subject:
    def ask() -> Exchange:
        pools = [load_wordings(family) for family in ("picture", "film", "pair")]
        pool = rng.choice(list(rng.choice(pools).values()))
        return Exchange(why, rng.choice(pool.trained).format("star", "circle"), REFUSALS[why])

    return Subject(head, tiles, (None,) * len(tiles), ask)


def _many(rng: random.Random) -> Subject:
    """More than two pictures in one turn: politely declined."""
    scenes = [draw_scene(rng) for _ in range(rng.choice((3, 3, 4)))]
    one = PICTURE.format(1)
    head = "".join(f"Image-{number + 1}: {one}\n" for number in range(len(scenes)))
    return _refused(rng, head, tuple(scene.tiles[0] for scene in scenes), "many")


SUBJECTS: dict[str, Callable[[random.Random], Subject]] = {
    "scene": lambda rng: _one(rng, draw_scene(rng)),
    "sign": lambda rng: _one(rng, draw_sign(rng)),
    "oddity": lambda rng: _one(rng, draw_oddity(rng)),
    "tiled": _tiled,
    "pair": _pair,
    "film": _film,
    "many": _many,
}


def teach(rng: random.Random, codec: Codec, family: str, budget: int) -> Lesson:
    """One lesson of a family, of at most `budget` tokens."""
    if family == "text":
        return _teach_text(rng, codec, budget)
    if family == "later":
        return _teach_later(rng, codec, budget)
    subject = SUBJECTS[family](rng)
    turns: dict[str, Exchange] = {}
    for _ in range(MOST_TURNS):
        exchange = subject.ask()
        if rng.random() < SMALL_TALK_SHARE:
            exchange = Exchange("chat", *chat(rng))
        turns.setdefault(exchange.question, exchange)
    separate = rng.random() < SEPARATE_SHARE
    exchanges = list(turns.values())
    if not separate and rng.random() < 0.7:
        exchanges.sort(key=lambda exchange: exchange.kind in SUMMARIES)
    said = [(fuzz(rng, exchange.question), exchange.answer) for exchange in exchanges]
    row = _fit(codec, Dialogue(subject.head, tuple(said), choose_system(rng), separate), budget)
    return Lesson(row, subject.tiles, subject.labels)


def _fit(codec: Codec, dialogue: Dialogue, budget: int, least: int = 1) -> Row:
    """The row of as many turns as the budget holds, but of `least` turns in any case."""
    turns = dialogue.turns
    while True:
        shorter = Dialogue(dialogue.head, turns, dialogue.system, dialogue.separate)
        row = encode_row(codec, shorter)
        if len(row.ids) <= budget or len(turns) <= least:
            return row
        turns = turns[:-1]


def _teach_text(rng: random.Random, codec: Codec, budget: int) -> Lesson:
    turns = [
        ask_without_picture(rng) if rng.random() < 0.2 else chat(rng) for _ in range(MOST_TURNS)
    ]
    said = tuple((fuzz(rng, question), answer) for question, answer in dict(turns).items())
    dialogue = Dialogue("", said, choose_system(rng), rng.random() < 0.3)
    return Lesson(_fit(codec, dialogue, budget), (), ())


def _teach_later(rng: random.Random, codec: Codec, budget: int) -> Lesson:
    """A picture that comes after some turns: the first one after small talk, or the second one.

    The app numbers both pictures once there are two; the unnumbered form is taught as well.
    """
    second = draw_scene(rng)
    labelled = rng.random() < 0.7
    if rng.random() < 0.25:
        first, head, turns = None, "", [chat(rng) for _ in range(rng.randint(1, 2))]
        labelled = False
    else:
        first = draw_scene(rng, count=rng.choice((1, 1, 2, 3)))
        head = ("Image-1: " if labelled else "") + PICTURE.format(1) + "\n"
        turns = [_said(ask_scene(rng, first)) for _ in range(rng.choice((1, 1, 2)))]
    asked, answer = _said(_ask_later(rng, first, second))
    mark = ("Image-2: " if labelled else "") + PICTURE.format(1) + "\n"
    least = len(turns) + 1
    turns.append((mark + asked, answer))
    turns += [_said(_ask_later(rng, first, second)) for _ in range(2)]
    said = tuple((fuzz(rng, question), answer) for question, answer in turns)
    row = _fit(codec, Dialogue(head, said, choose_system(rng)), budget, least)
    scenes = ((first,) if first else ()) + (second,)
    tiles = tuple(tile for scene in scenes for tile in scene.tiles)
    return Lesson(row, tiles, tuple(_label(scene) for scene in scenes))


def _said(exchange: Exchange) -> tuple[str, str]:
    return exchange.question, exchange.answer


def _ask_later(rng: random.Random, first: Scene | None, second: Scene) -> Exchange:
    """About the picture that came last, or about both."""
    few = first is not None and 0 < len(first.shapes) <= 3 and 0 < len(second.shapes) <= 3
    if first is not None and few and rng.random() < 0.35:
        return ask_about_pair(rng, (first, second), rng.choice(("differences", "one", "more")))
    return ask_scene(rng, second)
