"""The two ways in which scenes become pixels: one to train with, and one to be tried with alone."""

import io
import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from training.palette import RGB, SECOND_SHADES, SHADES


@dataclass(frozen=True)
class Renderer:
    """How scenes become pixels. `spoilt` is the share of pictures that get JPEG, and noise."""

    name: str
    shades: dict[str, tuple[RGB, ...]] = field(hash=False)
    spread: int
    scale: tuple[float, float]
    spoilt: float
    jpeg_quality: tuple[int, int]
    noise: tuple[float, float]
    gradients: float
    filters: tuple[Image.Resampling, ...]
    fonts: tuple[str, ...]


TRAINED = Renderer(
    "trained",
    SHADES,
    spread=20,
    scale=(1.2, 2.4),
    spoilt=0.3,
    jpeg_quality=(50, 95),
    noise=(2.0, 12.0),
    gradients=0.12,
    filters=(Image.Resampling.BICUBIC,) * 2 + (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS),
    fonts=(
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSerif",
        "DejaVuSerif-Bold",
        "DejaVuSansMono",
        "",
    ),
)
SECOND = Renderer(
    "second",
    SECOND_SHADES,
    spread=16,
    scale=(2.5, 5.0),
    spoilt=1.0,
    jpeg_quality=(60, 60),
    noise=(8.0, 8.0),
    gradients=0.0,
    filters=(Image.Resampling.BICUBIC,),
    fonts=("DejaVuSansMono-Bold", "DejaVuSerif-Italic", "DejaVuSansCondensed-Bold"),
)


def choose_shade(rng: random.Random, renderer: Renderer, colour: str) -> RGB:
    """One of the colour's shades, each channel moved by up to the renderer's `spread`."""
    red, green, blue = rng.choice(renderer.shades[colour])

    def moved(channel: int) -> int:
        return min(255, max(0, channel + rng.randint(-renderer.spread, renderer.spread)))

    return moved(red), moved(green), moved(blue)


def spoil(rng: random.Random, renderer: Renderer, picture: Image.Image) -> Image.Image:
    """What cameras and messengers do to a picture: JPEG, then grey noise."""
    if rng.random() < renderer.spoilt:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=rng.randint(*renderer.jpeg_quality))
        picture = Image.open(buffer).convert("RGB")
    if rng.random() < renderer.spoilt:
        noise = np.random.default_rng(rng.getrandbits(32))
        strength = rng.uniform(*renderer.noise)
        grain = noise.normal(0, strength, (picture.height, picture.width, 1))
        pixels = np.asarray(picture, np.float32) + grain
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return picture
