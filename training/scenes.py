"""Pictures of coloured shapes: what stands where, and how two renderers draw it.

A scene is drawn from one `random.Random` alone, so equal seeds give equal scenes. Nothing here
knows a question. Lengths are pixels of the drawn picture unless a name says otherwise.
"""

import math
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from training.palette import (
    BACKGROUND_WEIGHTS,
    FORMS,
    PLACES,
    RGB,
    SHAPE_COLOURS,
    colour_distance,
    outline,
)
from training.renderers import TRAINED, Renderer, choose_shade, spoil

TILE = 112
LABEL_SIDE = 56
CONTRAST = 95.0
SQUARISH = ((1.0, 5.0), (4 / 3, 2.5), (3 / 4, 1.2), (16 / 9, 1.3))

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shape:
    """One coloured form; `row` and `column` say in which of nine cells it stands."""

    form: str
    colour: str
    row: int
    column: int
    x: float
    y: float
    radius: float
    turn: float = 0.0
    fill: RGB = (0, 0, 0)
    line: RGB | None = None

    @property
    def name(self) -> str:
        return f"{self.colour} {self.form}"

    @property
    def place(self) -> str:
        return PLACES[self.row, self.column]

    def corners(self) -> list[tuple[float, float]]:
        """The outline in pixels of the picture."""
        cosine, sine = math.cos(self.turn), math.sin(self.turn)
        return [
            (
                self.x + self.radius * (across * cosine - down * sine),
                self.y + self.radius * (across * sine + down * cosine),
            )
            for across, down in outline(self.form)
        ]

    def box(self, width: int, height: int) -> Box:
        """Left, top, right, bottom as shares of the picture, cut at its border."""
        across = [x / width for x, _ in self.corners()]
        down = [y / height for _, y in self.corners()]
        return (
            max(0.0, min(across)),
            max(0.0, min(down)),
            min(1.0, max(across)),
            min(1.0, max(down)),
        )


@dataclass(frozen=True)
class Scene:
    """One picture and the truth about it."""

    picture: Image.Image
    background: str
    shapes: tuple[Shape, ...] = ()
    kind: str = "shapes"
    tiles: tuple[np.ndarray, ...] = ()
    labels: np.ndarray | None = None

    def box(self, shape: Shape) -> Box:
        return shape.box(self.picture.width, self.picture.height)


def choose_background(rng: random.Random) -> str:
    return rng.choices(list(BACKGROUND_WEIGHTS), list(BACKGROUND_WEIGHTS.values()))[0]


def choose_canvas(
    rng: random.Random, renderer: Renderer, aspects: tuple[tuple[float, float], ...] = SQUARISH
) -> tuple[int, int]:
    """Width and height; `aspects` pairs each width over height with its weight."""
    aspect = rng.choices([a for a, _ in aspects], [weight for _, weight in aspects])[0]
    side = TILE * rng.uniform(*renderer.scale)
    return round(side * aspect**0.5), round(side / aspect**0.5)


def paint_background(
    rng: random.Random, renderer: Renderer, colour: str, width: int, height: int
) -> tuple[Image.Image, RGB]:
    """A plain picture, sometimes a little brighter towards one side, and the shade it was given."""
    shade = choose_shade(rng, renderer, colour)
    picture = Image.new("RGB", (width, height), shade)
    if rng.random() >= renderer.gradients:
        return picture, shade
    change = rng.randint(-22, 22)
    if rng.random() < 0.5:
        slope = np.linspace(-change, change, height)[:, None, None]
    else:
        slope = np.linspace(-change, change, width)[None, :, None]
    pixels = np.asarray(picture, np.float32) + slope
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), shade


def squeeze(picture: Image.Image, how: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """The one tile the model sees, whatever the aspect: uint8 [112, 112, 3]."""
    return np.asarray(picture.resize((TILE, TILE), how))


def place_shapes(rng: random.Random, count: int, width: int, height: int) -> list[Shape]:
    """`count` shapes without form or colour in different cells, apart from each other.

    A crowd that finds no room after 50 tries loses one shape.
    """
    for _ in range(50):
        placed = _try_to_place(rng, count, width, height)
        if placed is not None:
            return sorted(placed, key=lambda shape: (shape.row, shape.column))
    return place_shapes(rng, count - 1, width, height)


def _try_to_place(rng: random.Random, count: int, width: int, height: int) -> list[Shape] | None:
    side = min(width, height)
    smallest = (0.105 if count <= 3 else 0.09) * side
    largest = {1: 0.36, 2: 0.23, 3: 0.19}.get(count, 0.165) * side
    placed: list[Shape] = []
    for cell in rng.sample(range(9), count):
        row, column = divmod(cell, 3)
        radius = rng.uniform(smallest, largest)
        for _ in range(12):
            x = (column + 0.5 + rng.uniform(-0.33, 0.33)) * width / 3
            y = (row + 0.5 + rng.uniform(-0.33, 0.33)) * height / 3
            room = min(x, width - x, y, height - y) * 0.98
            radius = min(radius, max(smallest, room))
            if all(
                math.hypot(x - other.x, y - other.y) > (radius + other.radius) * 1.04
                for other in placed
            ):
                placed.append(Shape("", "", row, column, x, y, radius))
                break
            radius = max(smallest, radius * 0.9)
        else:
            return None
    return placed


def dress(
    rng: random.Random, renderer: Renderer, shapes: list[Shape], background: str, ground: RGB
) -> list[Shape]:
    """Give every shape a form and a colour that can be told from the background.

    In three scenes of ten forms repeat and in one or two colours do: both must be looked at.
    """
    repeat = rng.random()
    dressed: list[Shape] = []
    for shape in shapes:
        form = rng.choice(FORMS)
        if dressed and repeat < 0.3 and rng.random() < 0.6:
            form = dressed[0].form
        while True:
            colour = rng.choice(SHAPE_COLOURS)
            if dressed and repeat > 0.85 and rng.random() < 0.6:
                colour = dressed[0].colour
            fill = choose_shade(rng, renderer, colour)
            if colour != background and colour_distance(fill, ground) > CONTRAST:
                break
        turn = rng.uniform(-0.16, 0.16) if rng.random() < 0.5 else 0.0
        line = _choose_line(rng, fill) if rng.random() < 0.12 else None
        dressed.append(replace(shape, form=form, colour=colour, fill=fill, turn=turn, line=line))
    return dressed


def _choose_line(rng: random.Random, fill: RGB) -> RGB:
    darker = (fill[0] // 2, fill[1] // 2, fill[2] // 2)
    return rng.choice([(0, 0, 0), (60, 60, 60), (255, 255, 255), darker])


def draw_shapes(picture: Image.Image, shapes: list[Shape]) -> None:
    """Draw onto `picture` in place."""
    brush = ImageDraw.Draw(picture)
    for shape in shapes:
        corners = shape.corners()
        brush.polygon(corners, fill=shape.fill)
        if shape.line is not None:
            width = max(1, picture.width // 90)
            brush.line(corners + corners[:2], fill=shape.line, width=width)


def compose(
    rng: random.Random,
    renderer: Renderer,
    picture: Image.Image,
    background: str,
    shapes: list[Shape],
) -> Scene:
    """Draw the shapes, spoil the picture, and keep it with its tile."""
    draw_shapes(picture, shapes)
    spoilt = spoil(rng, renderer, picture)
    tile = squeeze(spoilt, rng.choice(renderer.filters))
    return Scene(spoilt, background, tuple(shapes), tiles=(tile,))


def draw_scene(rng: random.Random, renderer: Renderer = TRAINED, count: int | None = None) -> Scene:
    """A picture of `count` shapes (0 to 5, mostly 1 to 3, when left out) on a plain background."""
    width, height = choose_canvas(rng, renderer)
    background = choose_background(rng)
    picture, ground = paint_background(rng, renderer, background, width, height)
    if count is None:
        count = rng.choices(range(6), [0.3, 3, 3.2, 2.5, 1.5, 0.8])[0]
    shapes = place_shapes(rng, count, width, height)
    shapes = dress(rng, renderer, shapes, background, ground)
    return compose(rng, renderer, picture, background, shapes)
