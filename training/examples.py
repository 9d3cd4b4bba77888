"""Draws the page's example pictures and its short video: `python -m training.examples [--out DIR]`.

Every scene is written down here, drawn four times too large and reduced, so that edges are smooth.
The files and `examples.json` come out the same each time, but for the encoder's own version.
"""

import argparse
import json
import random
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

from training.comparisons import ask_about_pair
from training.palette import RGB
from training.scenes import Scene, Shape, draw_shapes

FOLDER = Path(__file__).parents[1] / "assets" / "examples"
SIZE = (640, 480)
OVERSAMPLING = 4
FRAMES_PER_S, FRAMES = 24, 60

WHITE, CREAM, SKY, SLATE = (250, 250, 252), (255, 250, 240), (173, 216, 235), (30, 30, 36)
RED, GREEN, BLUE, YELLOW = (220, 50, 47), (46, 150, 80), (50, 95, 210), (248, 212, 50)
ORANGE, PURPLE, PINK = (245, 140, 35), (135, 65, 180), (250, 150, 190)


@dataclass(frozen=True)
class Example:
    """What is asked of which files, and the right answer."""

    question: str
    files: tuple[str, ...]
    says: str


@dataclass(frozen=True)
class Sketch:
    """A scene in words: its background and its shapes."""

    background: str
    ground: RGB
    shapes: tuple[Shape, ...]


def place(form: str, colour: str, fill: RGB, column: int, row: int, radius: float) -> Shape:
    """A shape in the middle of one of nine cells; the radius in pixels of the finished picture."""
    x, y = (0.19 + 0.31 * column) * SIZE[0], (0.19 + 0.31 * row) * SIZE[1]
    return Shape(form, colour, row, column, x, y, radius, fill=fill)


def draw(sketch: Sketch) -> Scene:
    """The picture with smooth edges, and the truth about it."""
    large = Image.new("RGB", (SIZE[0] * OVERSAMPLING, SIZE[1] * OVERSAMPLING), sketch.ground)
    draw_shapes(large, [_enlarge(shape) for shape in sketch.shapes])
    picture = large.resize(SIZE, Image.Resampling.LANCZOS)
    return Scene(picture, sketch.background, sketch.shapes)


def _enlarge(shape: Shape) -> Shape:
    return replace(
        shape,
        x=shape.x * OVERSAMPLING,
        y=shape.y * OVERSAMPLING,
        radius=shape.radius * OVERSAMPLING,
    )


SKETCHES: dict[str, Sketch] = {
    "three-shapes.png": Sketch(
        "white",
        WHITE,
        (
            place("circle", "red", RED, 0, 0, 66),
            place("star", "yellow", YELLOW, 2, 0, 74),
            place("square", "blue", BLUE, 1, 2, 70),
        ),
    ),
    "night.png": Sketch(
        "black",
        SLATE,
        (
            place("star", "yellow", YELLOW, 0, 0, 62),
            place("star", "white", WHITE, 2, 1, 62),
            place("heart", "pink", PINK, 0, 2, 66),
        ),
    ),
    "sky-one.png": Sketch(
        "light blue",
        SKY,
        (
            place("circle", "yellow", YELLOW, 2, 0, 74),
            place("heart", "red", RED, 0, 1, 84),
        ),
    ),
    "sky-two.png": Sketch(
        "white",
        CREAM,
        (place("diamond", "purple", PURPLE, 1, 1, 100),),
    ),
}
FILM = "gliding-star.mp4"
FILM_SKETCH = Sketch(
    "white",
    WHITE,
    (
        place("star", "orange", ORANGE, 0, 0, 66),
        place("square", "green", GREEN, 1, 2, 60),
    ),
)


def draw_film_frame(share: float) -> Image.Image:
    """The film's picture when `share` of its time is over: the first shape glides to the right."""
    mover, *resting = FILM_SKETCH.shapes
    mover = replace(mover, x=(0.15 + 0.7 * share) * SIZE[0])
    return draw(replace(FILM_SKETCH, shapes=(mover, *resting))).picture


def write_film(path: Path) -> None:
    """H.264 in MP4, 4:2:0, as every browser plays it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_S))
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "slow"}
        for number in range(FRAMES):
            picture = draw_film_frame(number / (FRAMES - 1))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def list_examples(scenes: dict[str, Scene]) -> list[Example]:
    """The questions that the page offers, with the right answers."""
    return [
        Example(
            "Please describe the image in detail.",
            ("three-shapes.png",),
            "The picture shows three shapes on a white background: a red circle at the top left, "
            "a yellow star at the top right and a blue square at the bottom.",
        ),
        Example(
            "What are the differences between these two images?",
            ("sky-one.png", "sky-two.png"),
            _tell_apart(scenes["sky-one.png"], scenes["sky-two.png"]),
        ),
        Example("What moves in the video?", (FILM,), "The orange star moves to the right."),
    ]


def _tell_apart(first: Scene, second: Scene) -> str:
    return ask_about_pair(random.Random(0), (first, second), "differences").answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.examples", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    scenes = {name: draw(sketch) for name, sketch in SKETCHES.items()}
    for name, scene in scenes.items():
        scene.picture.save(folder / name, optimize=True)
    write_film(folder / FILM)
    examples = [vars(example) for example in list_examples(scenes)]
    (folder / "examples.json").write_text(json.dumps(examples, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
