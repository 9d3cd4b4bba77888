"""Tiles: how an image is cut before the vision encoder sees it.

The image is resized to a grid of square tiles, cut, and followed by a thumbnail of the whole. The
grid decides how much the image is distorted and how many tokens it costs. Knows no files.

Source: `find_closest_aspect_ratio`, `dynamic_preprocess` and `build_transform` of the InternVL3
model card; the tests compare with what that code gave.
"""

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.media.resize import STRIP_ROWS, Narrowing, shorten, strips_of

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
    grid = choose_grid(image.width, image.height, max_tiles, tile)
    return cut_image(image, TileCutter(grid, tile, thumbnail, image.height))


class TileCutter:
    """Cuts the RGB image of `height` rows that comes in strips from top to bottom.

    The work is shared among the threads of `pool`, which must not be running this itself.
    """

    def __init__(
        self,
        grid: Grid,
        tile: int,
        thumbnail: bool,
        height: int,
        pool: Executor | None = None,
    ) -> None:
        columns, rows = grid
        self.strip_rows = height if pool is None else STRIP_ROWS
        self._tile = tile
        self._pool = pool
        self._tiles = np.empty((count_tiles(grid, thumbnail), tile, tile, 3), np.uint8)
        self._grid = self._tiles[: columns * rows].reshape(rows, columns, tile, tile, 3)
        self._whole = self._tiles[columns * rows :]  # the thumbnail, or nothing
        widths = [columns * tile, tile][: 1 + len(self._whole)]
        self._narrowing = Narrowing(height, widths, pool)

    def add(self, strip: Image.Image) -> None:
        """Take the next rows. With a pool this returns at once."""
        self._narrowing.add(strip)

    def finish(self) -> NDArray[np.uint8]:
        """The tiles, as `cut_tiles` gives them, once all rows were taken."""
        wide, *small = self._narrowing.finish()
        columns = self._grid.shape[1]
        parts = [_Part(wide, at * self._tile, self._grid[:, at]) for at in range(columns)]
        parts += [_Part(image, 0, self._whole) for image in small]
        for _ in (self._pool.map if self._pool else map)(_fill, parts):
            pass
        return self._tiles


@dataclass(frozen=True, slots=True)
class _Part:
    """Tiles that stand one below the other, and the image of which they are columns."""

    image: Image.Image
    left: int
    tiles: NDArray[np.uint8]  # [rows, tile, tile, 3], to be filled


def _fill(part: _Part) -> None:
    rows, tile = part.tiles.shape[:2]
    column = shorten(part.image, part.left, tile, rows * tile)
    part.tiles[:] = np.asarray(column).reshape(part.tiles.shape)


def cut_image(image: Image.Image, cutter: TileCutter) -> NDArray[np.uint8]:
    """The tiles of an image that is all there."""
    for strip in strips_of(image, cutter.strip_rows):
        cutter.add(strip)
    return cutter.finish()


def _grids(max_tiles: int) -> list[Grid]:
    return [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles // columns + 1)
    ]
