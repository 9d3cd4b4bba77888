"""The questions of the evaluation: never trained seeds, the second renderer, wordings held back.

Three sets: `seeds` has the trained renderer and wordings on unseen seeds, `renderer` has pictures
of the second renderer, `wordings` has questions whose words were never trained.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from training.chatter import CHAT_TOPICS, ask_without_picture, chat
from training.comparisons import ask_about_film, ask_about_pair, draw_pair
from training.films import draw_film
from training.lessons import film_head, pair_head
from training.oddities import draw_oddity, draw_sign
from training.questions import (
    ABOUT_ODDITIES,
    ABOUT_SCENES,
    REFUSALS,
    Exchange,
    ask_about_scene,
)
from training.renderers import SECOND, TRAINED, Renderer
from training.scenes import Scene, draw_scene, squeeze
from training.sequences import PICTURE, Dialogue
from training.system_prompts import OFFICIAL

SETS = ("seeds", "renderer", "wordings")
DECLINED_ABOUT_SCENES = ("any_text", "read", "relation", "size", "all_boxes")
ONE = PICTURE.format(1)


@dataclass(frozen=True)
class Trial:
    """One dialogue whose last answer the model is to give. `kind` reads family/kind."""

    kind: str
    dialogue: Dialogue
    tiles: tuple[np.ndarray, ...]

    @property
    def wanted(self) -> str:
        return self.dialogue.turns[-1][1]


@dataclass(frozen=True)
class Examiner:
    """Makes trials of one set from one source of chance."""

    rng: random.Random
    renderer: Renderer
    held: bool

    def picture(self, kind: str, draw: Callable[..., Scene]) -> Trial:
        while True:
            scene = draw(self.rng, self.renderer)
            exchange = ask_about_scene(self.rng, scene, kind, self.held)
            if exchange is not None:
                return _trial(f"{scene.kind}/{kind}", f"{ONE}\n", exchange, _tiles(scene))

    def oddity(self) -> Trial:
        trial = self.picture(self.rng.choice(list(ABOUT_ODDITIES)), draw_oddity)
        return replace(trial, kind="oddity/any")

    def pair(self, kind: str) -> Trial:
        """Two pictures, one time in three combined behind one <img>."""
        pair = draw_pair(self.rng, self.renderer)
        exchange = ask_about_pair(self.rng, pair, kind, self.held)
        head = pair_head(combined=self.rng.random() < 1 / 3)
        return _trial(f"pair/{kind}", head, exchange, _tiles(*pair))

    def film(self, kind: str) -> Trial:
        film = draw_film(self.rng, self.renderer)
        exchange = ask_about_film(self.rng, film, kind, self.held)
        return _trial(f"film/{kind}", film_head(len(film.frames)), exchange, film.tiles)

    def later(self) -> Trial:
        """A second picture in the second turn, after a right first answer, and a question on it."""
        first, second = (draw_scene(self.rng, self.renderer) for _ in range(2))
        kind = self.rng.choice(("list", "count", "where", "background", "form"))
        exchange = ask_about_scene(self.rng, second, kind, self.held)
        if exchange is None:
            return self.later()
        before = ask_about_scene(self.rng, first, "list", self.held)
        assert before is not None
        asked = f"Image-2: {ONE}\n{exchange.question}"
        turns = ((before.question, before.answer), (asked, exchange.answer))
        dialogue = Dialogue(f"Image-1: {ONE}\n", turns, OFFICIAL)
        return Trial("later/any", dialogue, _tiles(first, second))

    def many(self) -> Trial:
        """Three pictures in one turn."""
        scenes = [draw_scene(self.rng, self.renderer) for _ in range(3)]
        asked = ask_about_pair(self.rng, (scenes[0], scenes[1]), "differences", self.held)
        exchange = Exchange("many", asked.question, REFUSALS["many"])
        head = "".join(f"Image-{number}: {ONE}\n" for number in (1, 2, 3))
        return _trial("many/any", head, exchange, _tiles(*scenes))

    def talk(self, topic: str) -> Trial:
        return _trial("chat/" + topic, "", Exchange("chat", *chat(self.rng, self.held, topic)), ())

    def blind(self) -> Trial:
        exchange = Exchange("blind", *ask_without_picture(self.rng, self.held))
        return _trial("chat/no_picture", "", exchange, ())


def _tiles(*scenes: Scene) -> tuple[np.ndarray, ...]:
    """The tiles as the app makes them: bicubic, whatever the renderer used."""
    return tuple(squeeze(scene.picture) for scene in scenes)


def _trial(kind: str, head: str, exchange: Exchange, tiles: tuple[np.ndarray, ...]) -> Trial:
    dialogue = Dialogue(head, ((exchange.question, exchange.answer),), OFFICIAL)
    return Trial(kind, dialogue, tiles)


def _kinds() -> dict[str, Callable[[Examiner], Trial]]:
    """Every kind of trial and its maker, in the order of the table."""
    makers: dict[str, Callable[[Examiner], Trial]] = {}

    def add(name: str, method: Callable[..., Trial], *arguments: object) -> None:
        makers[name] = lambda examiner: method(examiner, *arguments)

    for kind in ABOUT_SCENES:
        add(f"shapes/{kind}", Examiner.picture, kind, draw_scene)
    add("later/any", Examiner.later)
    for kind in ("differences", "one", "more", "common", "other"):
        add(f"pair/{kind}", Examiner.pair, kind)
    for kind in ("moves", "direction", "tell", "background", "still", "other"):
        add(f"film/{kind}", Examiner.film, kind)
    for kind in ("read", "any_text", "describe", "list"):
        add(f"sign/{kind}", Examiner.picture, kind, draw_sign)
    add("oddity/any", Examiner.oddity)
    add("many/any", Examiner.many)
    for topic in CHAT_TOPICS:
        add(f"chat/{topic}", Examiner.talk, topic)
    add("chat/no_picture", Examiner.blind)
    return makers


KINDS = _kinds()
DECLINED = frozenset(
    {
        *(f"shapes/{kind}" for kind in DECLINED_ABOUT_SCENES),
        *(f"sign/{kind}" for kind in ("read", "any_text", "describe", "list")),
        *("pair/common", "pair/other", "film/still", "film/other"),
        *("oddity/any", "many/any"),
        *("chat/poem", "chat/foreign", "chat/unknown", "chat/no_picture"),
    }
)


def make_trials(kind: str, which: str, samples: int, seed: int) -> Iterator[Trial]:
    """`samples` trials of a kind; the seeds are of a form that training never uses."""
    rng = random.Random(f"evaluation-{seed}-{which}-{kind}")
    renderer = SECOND if which == "renderer" else TRAINED
    examiner = Examiner(rng, renderer, held=which == "wordings")
    for _ in range(samples):
        yield KINDS[kind](examiner)
