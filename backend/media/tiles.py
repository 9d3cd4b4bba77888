"""Tiles: how an image is cut before the vision encoder sees it.

The image is resized to a grid of square tiles, cut, and followed by a thumbnail of the whole. The
grid decides how much the image is distorted and how many tokens it costs. Knows no files.

Source: `find_closest_aspect_ratio`, `dynamic_preprocess` and `build_transform` of the InternVL3
model card; the tests compare with what that code gave.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Grid = tuple[int, int]  # columns, rows


def choose_grid(width: int, height: int, max_tiles: int, tile: int = 448) -> Grid:
    """The grid (columns, rows) of at most `max_tiles` tiles that distorts the image least.

    `width`, `height` and `tile`, the side of a tile, are in px; a thumbnail comes on top of
    `max_tiles`. 1 x 1, 2 x 2 and 3 x 3 distort a square alike. Among such equals the largest that
    the image fills by more than half wins: detail is kept, an icon is not blown up.
    """
    grids = sorted(_grids(max_tiles), key=lambda grid: grid[0] * grid[1])
    distortion = {grid: abs(width / height - grid[0] / grid[1]) for grid in grids}
    least = min(distortion.values())
    smallest, *larger = [grid for grid in grids if distortion[grid] == least]
    filled = [
        (columns, rows)
        for columns, rows in larger
        if width * height > 0.5 * tile * tile * columns * rows
    ]
    return filled[-1] if filled else smallest


def count_tiles(grid: Grid, thumbnail: bool) -> int:
    """Tiles of an image: those of its grid and, if it is cut at all, the thumbnail."""
    tiles = grid[0] * grid[1]
    return tiles + 1 if thumbnail and tiles > 1 else tiles


def cut_tiles(image: Image.Image, max_tiles: int, tile: int, thumbnail: bool) -> NDArray[np.uint8]:
    """An RGB image as tiles: uint8 [tiles, tile, tile, 3], row by row, the thumbnail last."""
    columns, rows = choose_grid(image.width, image.height, max_tiles, tile)
    resized = _resize(image, (columns * tile, rows * tile))
    tiles = (
        resized.reshape(rows, tile, columns, tile, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(columns * rows, tile, tile, 3)
    )
    if count_tiles((columns, rows), thumbnail) == len(tiles):
        return tiles
    return np.concatenate([tiles, _resize(image, (tile, tile))[None]])


def normalise(
    tiles: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """uint8 [n, side, side, 3] → float32 [n, 3, side, side]: (value / 255 - mean) / std."""
    scaled = tiles.astype(np.float32)
    scaled /= np.float32(255)
    scaled -= np.asarray(mean, np.float32)
    scaled /= np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _grids(max_tiles: int) -> list[Grid]:
    return [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles // columns + 1)
    ]


def _resize(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
