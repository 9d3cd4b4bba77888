"""Questions about scenes, films and pairs of pictures, and the one right answer to each.

A kind is offered when the trained network answers it reliably; the other kinds have a fixed,
polite refusal, so that the model is honest about them. Nothing here knows tokens.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.films import Film
from training.palette import FORMS, PLACES, SHAPE_COLOURS
from training.scenes import Scene, Shape
from training.wordings import Wordings, load_wordings

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
NO_TEXT = "No, there is no text."
TEXT_UNREAD = "There is text, but I cannot read it."
ODDITY = "Sorry, I only know simple pictures of colored shapes."
REFUSALS = {
    "relation": "Sorry, I cannot compare positions. Ask me where one shape is.",
    "size": "Sorry, I cannot compare sizes.",
    "all_boxes": "Sorry, I can only find one shape at a time. Ask me for the box of one shape.",
    "common": "Sorry, I cannot say what two pictures have in common. Ask me for the differences.",
    "still": "Sorry, I can only say what moves.",
    "film": "Sorry, of a video I can only say what moves and in which direction.",
    "pair": "Sorry, of two pictures I can only say what each shows and which has more shapes.",
    "many": "Sorry, I can look at two pictures at most.",
    "one_frame": "I see only one frame, so I cannot say what moves.",
}


@dataclass(frozen=True)
class Exchange:
    """One question of a kind and its answer."""

    kind: str
    question: str
    answer: str


@dataclass(frozen=True)
class Asker:
    """Chooses the words: those trained, or those held back for the evaluation."""

    rng: random.Random
    held: bool = False

    def ask(self, pool: Wordings, *about: str) -> str:
        return self.rng.choice(pool.held if self.held else pool.trained).format(*about)


Answers = Callable[[Asker, Scene], tuple[tuple[str, ...], str] | None]


def with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def join(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def say_number(count: int, noun: str) -> str:
    return f"There is one {noun}." if count == 1 else f"There are {NUMBERS[count]} {noun}s."


def say_shapes(scene: Scene) -> str:
    names = [with_article(shape.name) for shape in scene.shapes]
    return join(names) if names else "no shapes"


def say_box(scene: Scene, shape: Shape) -> str:
    """`<ref>red circle</ref><box>[[left, top, right, bottom]]</box>`, 0 to 1000, in tens."""
    numbers = ", ".join(str(round(share * 100) * 10) for share in scene.box(shape))
    return f"<ref>{shape.name}</ref><box>[[{numbers}]]</box>"


def alone(shapes: Sequence[Shape], attribute: str) -> list[Shape]:
    """The shapes whose form, colour or name no other shape shares."""
    values = [getattr(shape, attribute) for shape in shapes]
    return [shape for shape, value in zip(shapes, values, strict=True) if values.count(value) == 1]


def random_name(rng: random.Random) -> str:
    return f"{rng.choice(SHAPE_COLOURS)} {rng.choice(FORMS)}"


def _absent(name: str) -> str:
    return f"There is no {name} in the picture."


def _describe(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str]:
    count = len(scene.shapes)
    if not count:
        return (), f"The picture shows no shapes, only {with_article(scene.background)} background."
    where = join([f"{with_article(shape.name)} {shape.place}" for shape in scene.shapes])
    shapes = f"{NUMBERS[count]} shape" + ("s" if count > 1 else "")
    ground = with_article(scene.background)
    return (), f"The picture shows {shapes} on {ground} background: {where}."


def _list(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str]:
    if not scene.shapes:
        return (), f"I see no shapes, only {with_article(scene.background)} background."
    return (), f"I see {say_shapes(scene)}."


def _count(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str]:
    return (), say_number(len(scene.shapes), "shape")


def _count_form(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str]:
    form = _mostly(asker.rng, [shape.form for shape in scene.shapes], FORMS)
    return (form,), say_number(sum(shape.form == form for shape in scene.shapes), form)


def _count_colour(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str]:
    colour = _mostly(asker.rng, [shape.colour for shape in scene.shapes], SHAPE_COLOURS)
    count = sum(shape.colour == colour for shape in scene.shapes)
    return (colour,), say_number(count, f"{colour} shape")


def _mostly(rng: random.Random, shown: list[str], every: Sequence[str]) -> str:
    return rng.choice(shown if shown and rng.random() < 0.7 else every)


def _colour(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str] | None:
    form = asker.rng.choice(FORMS)
    if asker.rng.random() < 0.1 and all(shape.form != form for shape in scene.shapes):
        return (form,), _absent(form)
    candidates = alone(scene.shapes, "form")
    if not candidates:
        return None
    shape = asker.rng.choice(candidates)
    return (shape.form,), f"The {shape.form} is {shape.colour}."


def _form(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str] | None:
    candidates = alone(scene.shapes, "colour")
    if not candidates:
        return None
    shape = asker.rng.choice(candidates)
    return (shape.colour,), f"The {shape.colour} shape is {with_article(shape.form)}."


def _where(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str] | None:
    name = random_name(asker.rng)
    if asker.rng.random() < 0.12 and all(shape.name != name for shape in scene.shapes):
        return (name,), _absent(name)
    candidates = alone(scene.shapes, "name")
    if not candidates:
        return None
    shape = asker.rng.choice(candidates)
    by_form = shape in alone(scene.shapes, "form") and asker.rng.random() < 0.4
    name = shape.form if by_form else shape.name
    return (name,), f"The {name} is {shape.place}."


def _at(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str]:
    places = {shape.place: shape for shape in scene.shapes}
    place = _mostly(asker.rng, list(places), list(PLACES.values()))
    if place not in places:
        return (place,), f"There is nothing {place}."
    return (place,), f"There is {with_article(places[place].name)} {place}."


def _background(asker: Asker, scene: Scene | Film) -> tuple[tuple[str, ...], str]:
    return (), f"The background is {scene.background}."


def _exists(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str]:
    """Half of the names are there, a fifth have one attribute of a shape that is."""
    rng, chance = asker.rng, asker.rng.random()
    name = random_name(rng)
    if scene.shapes and chance < 0.7:
        shape = rng.choice(scene.shapes)
        name = shape.name
        if chance >= 0.5:
            nearly = (
                f"{shape.colour} {rng.choice(FORMS)}",
                f"{rng.choice(SHAPE_COLOURS)} {shape.form}",
            )
            name = rng.choice(nearly)
    if rng.random() < 0.2:
        name = name.split()[-1]
    there = any(name in (shape.name, shape.form) for shape in scene.shapes)
    return (with_article(name),), (
        f"Yes, there is {with_article(name)}." if there else f"No, there is no {name}."
    )


def _box(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str] | None:
    name = random_name(asker.rng)
    if asker.rng.random() < 0.06 and all(shape.name != name for shape in scene.shapes):
        return (name,), _absent(name)
    candidates = alone(scene.shapes, "name")
    if not candidates:
        return None
    shape = asker.rng.choice(candidates)
    return (shape.name,), say_box(scene, shape)


def _always(answer: str) -> Answers:
    def refuse(asker: Asker, scene: Scene) -> tuple[tuple[str, ...], str]:
        return (random_name(asker.rng), random_name(asker.rng)), answer

    return refuse


ABOUT_SCENES: dict[str, Answers] = {
    "describe": _describe,
    "list": _list,
    "count": _count,
    "count_form": _count_form,
    "count_colour": _count_colour,
    "colour": _colour,
    "form": _form,
    "where": _where,
    "at": _at,
    "background": _background,
    "exists": _exists,
    "box": _box,
    "any_text": _always(NO_TEXT),
    "read": _always("There is no text."),
    "relation": _always(REFUSALS["relation"]),
    "size": _always(REFUSALS["size"]),
    "all_boxes": _always(REFUSALS["all_boxes"]),
}
ABOUT_SIGNS: dict[str, Answers] = {
    "read": _always(TEXT_UNREAD),
    "any_text": _always("Yes, there is text, but I cannot read it."),
    "describe": _always("The picture shows some text, but I cannot read it."),
    "list": _always("I see some text, but I cannot read it."),
    "background": _background,
    "count": _always("There are no shapes."),
}
ABOUT_ODDITIES: dict[str, Answers] = {
    kind: _always(ODDITY)
    for kind in ("describe", "list", "count", "background", "exists", "read", "where", "colour")
}


def ask_about_scene(
    rng: random.Random, scene: Scene, kind: str, held: bool = False
) -> Exchange | None:
    """A question of `kind` about one picture, or None where the scene does not allow it."""
    asker = Asker(rng, held)
    about = {"sign": ABOUT_SIGNS, "oddity": ABOUT_ODDITIES}.get(scene.kind, ABOUT_SCENES)
    found = about[kind](asker, scene)
    if found is None:
        return None
    names, answer = found
    return Exchange(kind, asker.ask(load_wordings("picture")[kind], *names), answer)
