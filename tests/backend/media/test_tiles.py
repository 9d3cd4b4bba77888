"""Tiles are cut as the model card cuts them; the vectors were made by the card's own code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from backend.local.pixels import normalise
from backend.media.tiles import choose_grid, count_tiles, cut_tiles

GOLDEN = Path(__file__).parents[2] / "golden"
PIXELS = json.loads((GOLDEN / "pixels.json").read_text())


def card_grid(width: int, height: int, max_tiles: int, tile: int) -> tuple[int, int]:
    """The rule in the card's own terms: walk grids by area, keep the best, ties by area filled."""
    grids = {
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles + 1)
        if columns * rows <= max_tiles
    }
    best, best_difference = (1, 1), float("inf")
    for grid in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(width / height - grid[0] / grid[1])
        filled = width * height > 0.5 * tile * tile * grid[0] * grid[1]
        if difference < best_difference or (difference == best_difference and filled):
            best, best_difference = grid, difference
    return best


def formula_image(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    channels = ((7 * x + 3 * y) % 256, (x * x // 5 + y) % 256, (x + y * y // 7) % 256)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def test_the_grid_is_the_card_s_in_every_recorded_case() -> None:
    cases = json.loads((GOLDEN / "tiles.json").read_text())
    assert len(cases) == 400
    for case in cases:
        grid = choose_grid(case["width"], case["height"], case["max_tiles"])
        assert grid == (case["columns"], case["rows"]), case
        assert count_tiles(grid, thumbnail=True) == case["tiles_with_thumbnail"], case


@pytest.mark.parametrize("tile", [112, 448])
@pytest.mark.parametrize("max_tiles", [1, 2, 6, 12, 40])
def test_the_grid_follows_the_card_s_rule_for_any_tile_size(tile: int, max_tiles: int) -> None:
    random = np.random.default_rng(max_tiles)
    for width, height in random.integers(1, 3000, (200, 2)).tolist():
        expected = card_grid(width, height, max_tiles, tile)
        assert choose_grid(width, height, max_tiles, tile) == expected, (width, height)


def normalised(case: dict[str, Any]) -> NDArray[np.float32]:
    image = formula_image(case["width"], case["height"])
    tiles = cut_tiles(image, case["max_tiles"], tile=448, thumbnail=True)
    return normalise(torch.from_numpy(tiles), PIXELS["mean"], PIXELS["std"]).numpy()


@pytest.mark.parametrize(
    "case", PIXELS["cases"], ids=lambda case: f"{case['width']}x{case['height']}"
)
def test_normalised_pixels_are_the_card_s(case: dict[str, Any]) -> None:
    pixels = normalised(case)
    assert pixels.shape == (case["tiles"], 3, 448, 448)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels.mean(axis=(2, 3)), case["tile_channel_means"], atol=1e-5)
    for sample in case["samples"]:
        found = pixels[sample["tile"], :, sample["y"], sample["x"]]
        np.testing.assert_allclose(found, sample["rgb"], atol=1e-5)


def test_tiles_come_row_by_row_and_the_thumbnail_last() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (90, 90, 0), (0, 90, 90), (90, 0, 90)]
    image = Image.new("RGB", (336, 224))
    for place, colour in enumerate(colours):
        image.paste(colour, (place % 3 * 112, place // 3 * 112, place % 3 * 112 + 112, 224))
    tiles = cut_tiles(image, max_tiles=6, tile=112, thumbnail=True)
    assert tiles.shape == (7, 112, 112, 3)
    assert [tuple(tile[56, 56].tolist()) for tile in tiles[:6]] == colours
    np.testing.assert_array_equal(tiles[6], np.asarray(image.resize((112, 112))))


def test_an_image_in_one_tile_has_no_thumbnail() -> None:
    assert len(cut_tiles(formula_image(50, 50), max_tiles=1, tile=112, thumbnail=True)) == 1


def test_without_thumbnail_only_the_grid_is_cut() -> None:
    assert len(cut_tiles(formula_image(336, 112), max_tiles=3, tile=112, thumbnail=False)) == 3
