"""Pictures that the model should not pretend to know: text, and whatever is no plain scene."""

import math
import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.palette import SHAPE_COLOURS
from training.renderers import TRAINED, Renderer, choose_shade, spoil
from training.scenes import (
    TILE,
    Scene,
    choose_background,
    choose_canvas,
    colour_distance,
    paint_background,
    squeeze,
)

READABLE = 130.0
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
Noise = np.random.Generator


@cache
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The named font where the machine has it, else Pillow's own."""
    if name:
        try:
            return ImageFont.truetype(f"{name}.ttf", size)
        except OSError:
            pass
    return ImageFont.load_default(size)


def draw_sign(rng: random.Random, renderer: Renderer = TRAINED) -> Scene:
    """One to five letters or digits on a plain background, sometimes on a board."""
    width, height = choose_canvas(rng, renderer)
    background = choose_background(rng)
    picture, ground = paint_background(rng, renderer, background, width, height)
    brush = ImageDraw.Draw(picture)
    word = "".join(
        rng.choice(LETTERS) for _ in range(rng.choices(range(1, 7), [1, 2, 3, 4, 3, 1])[0])
    )
    if rng.random() < 0.3:
        word = word.capitalize()
    font_name = rng.choice(renderer.fonts)
    size = max(9, int(rng.uniform(0.16, 0.42) * min(width, height)))
    size = max(9, min(size, int(size * 0.88 * width / _measure(brush, word, font_name, size)[0])))
    size = max(size, int(0.13 * height))
    wide, high, top = _measure(brush, word, font_name, size)
    x = rng.uniform(0.03 * width, max(0.03 * width, 0.97 * width - wide))
    y = rng.uniform(0.05 * height, max(0.05 * height, 0.95 * height - high))
    if rng.random() < 0.35:
        ground = _contrasting(rng, renderer, ground)
        edge = size * 0.22
        board = (x - edge, y - edge, x + wide + edge, y + high + edge)
        brush.rounded_rectangle(board, size * 0.15, fill=ground)
    ink = _contrasting(rng, renderer, ground)
    brush.text((x, y - top), word, font=load_font(font_name, size), fill=ink)
    picture = spoil(rng, renderer, picture)
    tile = squeeze(picture, rng.choice(renderer.filters))
    return Scene(picture, background, kind="sign", tiles=(tile,))


def _measure(
    brush: ImageDraw.ImageDraw, word: str, font_name: str, size: int
) -> tuple[float, float, float]:
    """Width, height, and how far below the pen the ink begins."""
    left, top, right, bottom = brush.textbbox((0, 0), word, font=load_font(font_name, size))
    return max(1.0, right - min(0.0, left)), bottom - top, top


def _contrasting(
    rng: random.Random, renderer: Renderer, ground: tuple[int, int, int]
) -> tuple[int, int, int]:
    while True:
        shade = choose_shade(rng, renderer, rng.choice(SHAPE_COLOURS))
        if colour_distance(shade, ground) > READABLE:
            return shade


def draw_oddity(rng: random.Random, renderer: Renderer = TRAINED) -> Scene:
    """A picture that is no scene: noise, clouds, stripes, a landscape, a face, clutter."""
    noise = np.random.default_rng(rng.getrandbits(32))
    painters = {
        _paint_noise: 1,
        _paint_clouds: 4,
        _paint_stripes: 1,
        _paint_blend: 1,
        _paint_clutter: 3,
        _paint_landscape: 4,
        _paint_subject: 4,
    }
    painter = rng.choices(list(painters), list(painters.values()))[0]
    pixels = painter(rng, noise)
    if rng.random() < 0.5:
        pixels = pixels + noise.normal(0, rng.uniform(2, 14), (TILE, TILE, 1))
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    picture = spoil(rng, renderer, picture)
    return Scene(picture, "", kind="oddity", tiles=(squeeze(picture),))


def _paint_noise(rng: random.Random, noise: Noise) -> np.ndarray:
    return noise.integers(0, 256, (TILE, TILE, 3)).astype(np.float32)


def _clouds(noise: Noise, steepness: float) -> np.ndarray:
    """Noise that falls with the frequency as in photographs: [112, 112], mean 0, deviation 1."""
    frequencies = np.fft.fftfreq(TILE)
    distance = np.hypot(frequencies[:, None], frequencies[None]) + 1 / TILE
    spectrum = np.fft.fft2(noise.normal(size=(TILE, TILE))) / distance**steepness
    field = np.fft.ifft2(spectrum).real
    return (field - field.mean()) / (field.std() + 1e-6)


def _paint_clouds(rng: random.Random, noise: Noise) -> np.ndarray:
    steepness = rng.uniform(0.9, 1.8)
    mixing = noise.normal(size=(3, 3)) * 0.5 + rng.choice([0.3, 1.0])
    field = np.stack([_clouds(noise, steepness) for _ in range(3)], -1) @ mixing
    field = field / (field.std() + 1e-6)
    return field * rng.uniform(30, 70) + noise.uniform(60, 190, 3)


def _paint_stripes(rng: random.Random, noise: Noise) -> np.ndarray:
    angle, period = rng.uniform(0, math.pi), rng.uniform(5, 22)
    y, x = np.mgrid[:TILE, :TILE]
    bands = ((x * math.cos(angle) + y * math.sin(angle)) // period % 2).astype(int)
    if rng.random() < 0.5:
        bands ^= ((y * math.cos(angle) - x * math.sin(angle)) // period % 2).astype(int)
    return noise.integers(0, 256, (2, 3))[bands].astype(np.float32)


def _paint_blend(rng: random.Random, noise: Noise) -> np.ndarray:
    y, x = np.mgrid[:TILE, :TILE][:, :, :, None] / TILE
    corners = noise.uniform(0, 255, (4, 3))
    upper = corners[0] * (1 - x) + corners[1] * x
    lower = corners[2] * (1 - x) + corners[3] * x
    return upper * (1 - y) + lower * y


def _random_colour(noise: Noise) -> tuple[int, int, int]:
    red, green, blue = noise.integers(0, 256, 3).tolist()
    return red, green, blue


def _paint_clutter(rng: random.Random, noise: Noise) -> np.ndarray:
    picture = Image.new("RGB", (TILE, TILE), _random_colour(noise))
    brush = ImageDraw.Draw(picture)
    for _ in range(rng.randint(14, 50)):
        x, y = rng.uniform(-10, TILE), rng.uniform(-10, TILE)
        if rng.random() < 0.5:
            corners = [
                (x + rng.uniform(-30, 30), y + rng.uniform(-30, 30))
                for _ in range(rng.randint(3, 6))
            ]
            brush.polygon(corners, fill=_random_colour(noise))
        else:
            far = x + rng.uniform(3, 40), y + rng.uniform(3, 40)
            brush.ellipse((x, y, *far), fill=_random_colour(noise))
    return np.asarray(picture, np.float32)


def _paint_landscape(rng: random.Random, noise: Noise) -> np.ndarray:
    """Sky over hills or houses, each with a texture and shading of its own."""
    pixels = _paint_blend(rng, noise) * 0.4 + noise.uniform(60, 150, 3)
    x = np.arange(TILE)
    for layer in range(rng.randint(1, 4)):
        waves = sum(
            rng.uniform(2, 14) * np.sin(x * rng.uniform(0.02, 0.3) + rng.uniform(0, 6))
            for _ in range(3)
        )
        if rng.random() < 0.4:
            waves = np.repeat(noise.uniform(-25, 25, TILE // 8 + 1), 8)[:TILE]
        skyline = TILE * (0.3 + 0.17 * layer) + waves
        inside = np.mgrid[:TILE, :TILE][0] > skyline[None, :]
        texture = _clouds(noise, rng.uniform(0.5, 1.5))[:, :, None] * rng.uniform(8, 35)
        pixels = np.where(inside[:, :, None], texture + noise.uniform(20, 200, 3), pixels)
    return pixels


def _paint_subject(rng: random.Random, noise: Noise) -> np.ndarray:
    """A shaded body of several parts before a blurred background: an animal, a face, a thing."""
    behind = Image.fromarray(_paint_clouds(rng, noise).clip(0, 255).astype(np.uint8))
    behind = behind.filter(ImageFilter.GaussianBlur(rng.uniform(0, 6)))
    mask = Image.new("L", (TILE, TILE))
    brush = ImageDraw.Draw(mask)
    middle = rng.uniform(30, 80), rng.uniform(35, 85)
    for _ in range(rng.randint(3, 9)):
        x, y = middle[0] + rng.gauss(0, 18), middle[1] + rng.gauss(0, 20)
        wide, high = rng.uniform(4, 26), rng.uniform(4, 26)
        brush.ellipse((x - wide, y - high, x + wide, y + high), fill=255)
    soft = np.asarray(mask.filter(ImageFilter.GaussianBlur(1.0)), np.float32)[:, :, None] / 255
    texture = _clouds(noise, rng.uniform(0.6, 1.6))[:, :, None] * rng.uniform(10, 45)
    body = texture + noise.uniform(20, 220, 3)
    return np.asarray(behind, np.float32) * (1 - soft) + body * soft
