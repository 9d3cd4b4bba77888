"""Questions about several pictures at once: two side by side, and the frames of a film."""

import random
from dataclasses import replace

from training.films import Film
from training.palette import FORMS
from training.questions import (
    REFUSALS,
    Asker,
    Exchange,
    join,
    random_name,
    say_shapes,
    with_article,
)
from training.renderers import TRAINED, Renderer, choose_shade
from training.scenes import (
    CONTRAST,
    Scene,
    colour_distance,
    compose,
    draw_scene,
    dress,
    paint_background,
    place_shapes,
)
from training.wordings import load_wordings

Pair = tuple[Scene, Scene]
COUNTS = (1, 2, 3), (4.0, 3.0, 1.0)


def draw_pair(rng: random.Random, renderer: Renderer = TRAINED) -> Pair:
    """Two pictures of one to three shapes; half of the pairs share a shape or the background."""
    first = draw_scene(rng, renderer, rng.choices(*COUNTS)[0])
    count = rng.choices(*COUNTS)[0]
    if rng.random() < 0.45:
        return first, draw_scene(rng, renderer, count)
    return first, _draw_relative(rng, renderer, first, count)


def _draw_relative(rng: random.Random, renderer: Renderer, first: Scene, count: int) -> Scene:
    """A picture that may repeat the background of `first` and repeats one of its shapes' names."""
    sibling = draw_scene(rng, renderer, 1)
    background = first.background if rng.random() < 0.6 else sibling.background
    width, height = sibling.picture.size
    picture, ground = paint_background(rng, renderer, background, width, height)
    shapes = place_shapes(rng, count, width, height)
    shapes = dress(rng, renderer, shapes, background, ground)
    model, place = rng.choice(first.shapes), rng.randrange(len(shapes))
    fill = choose_shade(rng, renderer, model.colour)
    if model.colour != background and colour_distance(fill, ground) > CONTRAST:
        shapes[place] = replace(shapes[place], form=model.form, colour=model.colour, fill=fill)
    return compose(rng, renderer, picture, background, shapes)


def _say_scene(scene: Scene) -> str:
    return f"{say_shapes(scene)} on {with_article(scene.background)} background"


def ask_about_pair(rng: random.Random, pair: Pair, kind: str, held: bool = False) -> Exchange:
    """A question of `kind` about two pictures that are called Image-1 and Image-2."""
    asker, pool = Asker(rng, held), load_wordings("pair")[kind]
    first, second = pair
    if kind == "differences":
        answer = f"Image-1 shows {_say_scene(first)}, while Image-2 shows {_say_scene(second)}."
        return Exchange(kind, asker.ask(pool), answer)
    if kind == "one":
        number = rng.randint(1, 2)
        answer = f"Image-{number} shows {_say_scene(pair[number - 1])}."
        return Exchange(kind, asker.ask(pool, str(number)), answer)
    if kind == "more":
        return Exchange(kind, asker.ask(pool), _say_more(len(first.shapes), len(second.shapes)))
    refusal = REFUSALS["common" if kind == "common" else "pair"]
    return Exchange(kind, asker.ask(pool, _any_name(rng)), refusal)


def _say_more(first: int, second: int) -> str:
    if first == second:
        return "Both images have the same number of shapes."
    return f"Image-{1 if first > second else 2} has more shapes."


def _any_name(rng: random.Random) -> str:
    return random_name(rng) if rng.random() < 0.5 else rng.choice(FORMS)


def ask_about_film(rng: random.Random, film: Film, kind: str, held: bool = False) -> Exchange:
    """A question of `kind` about a film."""
    asker, pool = Asker(rng, held), load_wordings("film")[kind]
    if kind in ("still", "other"):
        refusal = REFUSALS["still" if kind == "still" else "film"]
        return Exchange(kind, asker.ask(pool, _any_name(rng)), refusal)
    if kind == "background":
        return Exchange(kind, asker.ask(pool), f"The background is {film.background}.")
    if kind == "direction":
        return _ask_direction(asker, film)
    if len(film.frames) == 1:
        return Exchange(kind, asker.ask(pool), REFUSALS["one_frame"])
    answer = _say_move(film) if kind == "moves" else _say_film(film)
    return Exchange(kind, asker.ask(pool), answer)


def _say_move(film: Film) -> str:
    if film.mover is None:
        return "Nothing moves."
    return f"The {film.mover.name} moves {film.direction}."


def _say_film(film: Film) -> str:
    parts = []
    if film.mover is not None:
        parts.append(f"{with_article(film.mover.name)} moving {film.direction}")
    if film.resting:
        names = [with_article(shape.name) for shape in film.resting]
        parts.append(f"{join(names)} standing still")
    ground = with_article(film.background)
    return f"The video shows {' and '.join(parts)} on {ground} background."


def _ask_direction(asker: Asker, film: Film) -> Exchange:
    rng = asker.rng
    asked = film.mover if film.mover and rng.random() < 0.75 else rng.choice(film.shapes)
    same_form = sum(shape.form == asked.form for shape in film.shapes)
    name = asked.name if rng.random() < 0.6 or same_form > 1 else asked.form
    question = asker.ask(load_wordings("film")["direction"], name)
    if len(film.frames) == 1:
        return Exchange("direction", question, REFUSALS["one_frame"])
    moves = film.mover is not None and asked.name == film.mover.name
    answer = f"The {name} moves {film.direction}." if moves else f"The {name} does not move."
    return Exchange("direction", question, answer)
