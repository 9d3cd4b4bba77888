"""Short films: up to three shapes, one of which may move, as the frames a model is sent."""

import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from training.palette import DIRECTIONS
from training.renderers import TRAINED, Renderer, spoil
from training.scenes import (
    Scene,
    Shape,
    choose_background,
    choose_canvas,
    draw_shapes,
    dress,
    paint_background,
    squeeze,
)

FILM_ASPECTS = ((1.0, 2.0), (4 / 3, 1.0), (16 / 9, 1.0))
FRAME_COUNTS = {8: 6.0, 4: 1.0, 5: 1.0, 6: 1.0, 7: 0.5, 10: 0.5, 12: 0.5}
STANDSTILL = 0.12


@dataclass(frozen=True)
class Film:
    """Frames and the truth about them. `mover` is None when nothing moves."""

    frames: tuple[Scene, ...]
    background: str
    mover: Shape | None
    direction: str | None
    resting: tuple[Shape, ...]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return ((self.mover,) if self.mover else ()) + self.resting

    @property
    def tiles(self) -> tuple[np.ndarray, ...]:
        return tuple(tile for frame in self.frames for tile in frame.tiles)


def draw_film(
    rng: random.Random, renderer: Renderer = TRAINED, frame_count: int | None = None
) -> Film:
    """A film of `frame_count` frames (4 to 12, mostly 8, when left out); shapes keep to lanes."""
    width, height = choose_canvas(rng, renderer, FILM_ASPECTS)
    background = choose_background(rng)
    empty, ground = paint_background(rng, renderer, background, width, height)
    if frame_count is None:
        frame_count = rng.choices(list(FRAME_COUNTS), list(FRAME_COUNTS.values()))[0]
    direction = None if rng.random() < STANDSTILL else rng.choice(list(DIRECTIONS))
    shapes = _line_up(rng, width, height, direction)
    shapes = dress(rng, renderer, shapes, background, ground)
    shapes = [replace(shape, line=None) for shape in shapes]
    if len({shape.name for shape in shapes}) < len(shapes):
        return draw_film(rng, renderer, frame_count)
    path = rng.uniform(0.12, 0.3), rng.uniform(0.66, 0.88)
    frames = tuple(
        _draw_frame(rng, renderer, empty, background, _moved(shapes, direction, path, share, empty))
        for share in np.linspace(0, 1, frame_count)
    )
    mover = shapes[0] if direction else None
    return Film(frames, background, mover, direction, tuple(shapes[1 if direction else 0 :]))


def _line_up(rng: random.Random, width: int, height: int, direction: str | None) -> list[Shape]:
    """Shapes on lanes along the direction, so that the mover never meets another one."""
    count = rng.choices([1, 2, 3], [5, 5, 1])[0]
    sideways = direction is None or DIRECTIONS[direction][0] != 0
    shapes = []
    for lane_number in rng.sample(range(3), count):
        radius = rng.uniform(0.1, 0.15 if count > 1 else 0.2) * min(width, height)
        lane = (lane_number + 0.5) / 3 if count > 1 else rng.uniform(0.2, 0.8)
        along = rng.uniform(0.2, 0.8)
        x, y = (along, lane) if sideways else (lane, along)
        shapes.append(Shape("", "", 0, 0, x * width, y * height, radius))
    return shapes


def _moved(
    shapes: list[Shape],
    direction: str | None,
    path: tuple[float, float],
    share: float,
    picture: Image.Image,
) -> list[Shape]:
    """The shapes when `share` of the mover's path lies behind it."""
    if direction is None:
        return shapes
    right, down = DIRECTIONS[direction]
    along = path[0] + (path[1] - path[0]) * share
    if right:
        mover = replace(shapes[0], x=(along if right > 0 else 1 - along) * picture.width)
    else:
        mover = replace(shapes[0], y=(along if down > 0 else 1 - along) * picture.height)
    return [mover, *shapes[1:]]


def _draw_frame(
    rng: random.Random, renderer: Renderer, empty: Image.Image, background: str, shapes: list[Shape]
) -> Scene:
    picture = empty.copy()
    draw_shapes(picture, shapes)
    picture = spoil(rng, renderer, picture)
    return Scene(picture, background, tuple(shapes), "frame", tiles=(squeeze(picture),))
