"""Cutting an image file: told when its header is read, done soon after its last row.

Where it can, it begins while the rows still come, and in the fast mode it has large JPEGs decoded
at a half, a quarter or an eighth. Knows the model's tiles, and images as Pillow opens them.

Fast mode: an image at least twice its grid's size is shrunk by a whole factor before it is cut, a
JPEG while it is decoded (libjpeg's scaled inverse DCT), others by Pillow's box filter. Sharp edges
differ most. The largest and mean differences in 16 pictures of 8 to 24 MP, of 255: photograph-like
5 and 0.7, drawings 12 and 0.02, printed text 67 and 5.4, gratings at the limit of what tiles can
show 89 and 14. All other images are cut exactly.
"""

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from backend.media.colours import is_plain
from backend.media.early import EarlyRows
from backend.media.images import orientation_of
from backend.media.tiles import Grid, TileCutter, choose_grid, cut_image

FEW_PIXELS = 1_000_000  # smaller images are cut before other threads would have begun


@dataclass(frozen=True, slots=True)
class Choices:
    """How images are cut: the most tiles, their side in px, and what comes with them."""

    max_tiles: int
    tile: int
    thumbnail: bool
    fast: bool = False


class Cutting:
    """The cutting of one file. `grid` and `size`, in px and upright, hold once it is cut."""

    def __init__(self, choices: Choices, pool: Executor | None) -> None:
        self._choices = choices
        self._pool = pool
        self._cutter: TileCutter | None = None
        self._early: EarlyRows | None = None
        self.size = (0, 0)

    def begin(self, image: ImageFile.ImageFile) -> None:
        """The header of the image was read, and its decoding comes next."""
        if image.format not in ("JPEG", "MPO"):
            return  # may say only at its end how it must be turned
        turned = orientation_of(image) >= 5
        self.size = (image.height, image.width) if turned else image.size
        grid = self._grid()
        if self._choices.fast:
            wanted = self._least(grid)
            image.draft(None, (wanted[1], wanted[0]) if turned else wanted)
        many = image.width * image.height > FEW_PIXELS
        if self._pool and many and is_plain(image) and orientation_of(image) == 1:
            self._cutter = self._new_cutter(grid, image, self._pool)
            self._early = EarlyRows(image, self._cutter.add)

    def finish(self, image: Image.Image) -> NDArray[np.uint8]:
        """The tiles of the image, which is decoded, upright and RGB: as `cut_tiles` gives them."""
        if self._early and self._cutter:
            self._early.finish(image)
            return self._cutter.finish()
        if self.size == (0, 0):
            self.size = image.size
        grid = self._grid()
        if self._choices.fast:
            wide, high = self._least(grid)
            image = image.reduce(max(1, min(image.width // wide, image.height // high)))
        few = image.width * image.height <= FEW_PIXELS
        return cut_image(image, self._new_cutter(grid, image, None if few else self._pool))

    def _grid(self) -> Grid:
        return choose_grid(*self.size, self._choices.max_tiles, self._choices.tile)

    def _least(self, grid: Grid) -> tuple[int, int]:
        """The size below which detail would be lost that the tiles can show."""
        return grid[0] * self._choices.tile, grid[1] * self._choices.tile

    def _new_cutter(self, grid: Grid, image: Image.Image, pool: Executor | None) -> TileCutter:
        tile, thumbnail = self._choices.tile, self._choices.thumbnail
        return TileCutter(grid, tile, thumbnail, image.height, pool)
