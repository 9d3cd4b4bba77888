"""Pictures as engines get them: cut here, so that every engine sees the pixels the local one sees.

A picture travels as the grid of its tiles, laid side by side again: an engine that tiles as the
model card does finds the same grid and has nothing to resize but the thumbnail. A frame travels
as its one tile. PNG keeps the pixels and is read by all (llama.cpp refuses WebP).
"""

import hashlib
import io
from base64 import b64encode
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.conversation import Attachment
from backend.media.reader import ImageLook, MediaReader
from backend.media.shelf import Shelf
from backend.media.stopping import StopSign, never

KEPT_BYTES = 256_000_000  # of data URLs, so that earlier turns are not written anew
QUICKLY = 1  # zlib's level: the network is faster than better ones


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a data URL; `key` names its content, `cut` counts the tiles of its grid."""

    key: str
    url: str
    tiles: int  # that the model reads, the thumbnail among them
    cut: int


class Pictures:
    """Makes and keeps what engines get of files. Thread-safe."""

    def __init__(self, media: MediaReader) -> None:
        self._media = media
        self._kept: Shelf[tuple[Picture, ...]] = Shelf(
            KEPT_BYTES, lambda pictures: sum(len(picture.url) for picture in pictures)
        )

    def of(self, file: Attachment, stopped: StopSign = never) -> tuple[Picture, ...]:
        """An image's picture, or those of a video's frames.

        Raises `BadFile` for what cannot be used, and `Stopped`.
        """

        def make() -> tuple[Picture, ...]:
            return self._make(file, stopped)

        return self._kept.get(self._media.key(file, stopped), make, stopped)

    def _make(self, file: Attachment, stopped: StopSign) -> tuple[Picture, ...]:
        look = self._media.look(file, stopped)
        tiles = self._media.tiles(file, stopped)
        if not isinstance(look, ImageLook):
            return tuple(draw(frame, 1, 1) for frame in tiles)
        cut = look.columns * look.rows
        return (draw(lay(tiles[:cut], look.columns), look.tiles, cut),)


def lay(tiles: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """uint8 [n, side, side, 3], row by row → the picture they were cut from [height, width, 3]."""
    count, side = tiles.shape[:2]
    rows = count // columns
    grid = tiles.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * side, columns * side, 3)


def draw(pixels: NDArray[np.uint8], tiles: int, cut: int) -> Picture:
    """Pixels [height, width, 3] as a PNG in a data URL."""
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", compress_level=QUICKLY)
    content = png.getvalue()
    url = f"data:image/png;base64,{b64encode(content).decode()}"
    return Picture(hashlib.sha256(content).hexdigest(), url, tiles, cut)
