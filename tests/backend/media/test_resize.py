"""Resizing in strips, on several threads, gives the very pixels of `Image.resize`."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from backend.media.resize import Narrowing, shorten, strips_of
from backend.media.tiles import TileCutter, choose_grid, cut_image, cut_tiles


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_two_passes_in_strips_are_one_resize_whatever_the_sizes() -> None:
    random = np.random.default_rng(7)
    with ThreadPoolExecutor(3) as pool:
        for seed in range(40):
            width, height, wide, high, rows = random.integers(1, 300, 5).tolist()
            image = noise(width, height, seed)
            narrowing = Narrowing(height, [wide], pool)
            for strip in strips_of(image, rows):
                narrowing.add(strip)
            (narrowed,) = narrowing.finish()
            whole = image.resize((wide, high), Image.Resampling.BICUBIC)
            cut = wide // 2
            for left, right in ((0, cut), (cut, wide)):
                if left == right:
                    continue
                part = shorten(narrowed, left, right - left, high)
                np.testing.assert_array_equal(
                    np.asarray(part), np.asarray(whole.crop((left, 0, right, high)))
                )


@pytest.mark.parametrize(("width", "height"), [(1601, 1203), (997, 640), (640, 997), (30, 1500)])
def test_tiles_are_the_same_on_any_number_of_threads(width: int, height: int) -> None:
    image = noise(width, height)
    columns, rows = choose_grid(width, height, 12, 112)
    whole = np.asarray(image.resize((columns * 112, rows * 112), Image.Resampling.BICUBIC))
    alone = cut_tiles(image, 12, 112, thumbnail=True)
    with ThreadPoolExecutor(3) as pool:
        cutter = TileCutter((columns, rows), 112, True, height, pool)
        np.testing.assert_array_equal(cut_image(image, cutter), alone)
    for at, tile in enumerate(alone[: columns * rows]):
        top, left = at // columns * 112, at % columns * 112
        np.testing.assert_array_equal(tile, whole[top : top + 112, left : left + 112])
    np.testing.assert_array_equal(
        alone[-1], np.asarray(image.resize((112, 112), Image.Resampling.BICUBIC))
    )
