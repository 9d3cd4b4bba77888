"""Resizing on several cores, to the very pixels that `Image.resize` gives on one.

Pillow resizes rows first and columns then, and rounds to 8 bits in between (`ImagingResample` in
src/libImaging/Resample.c, Pillow 12). No row looks at another in the first pass, and no column at
another in the second, so each pass can be done in strips. Knows no tiles and no files.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import partial

from PIL import Image

STRIP_ROWS = 256  # of a photograph: enough strips for the cores, few enough to cost nothing
BICUBIC = Image.Resampling.BICUBIC


def strips_of(image: Image.Image, rows: int) -> Iterator[Image.Image]:
    """The image from top to bottom in strips of `rows` rows, the last one of what is left."""
    if image.height <= rows:
        yield image  # without a copy
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


class Narrowing:
    """The first pass, of an RGB image of `height` rows to several widths, as its strips come."""

    def __init__(self, height: int, widths: Sequence[int], pool: Executor | None) -> None:
        self._height = height
        self._narrow = partial(_narrow, widths)
        self._widths = widths
        self._pool = pool
        self._strips: list[Future[list[Image.Image]]] = []

    def add(self, strip: Image.Image) -> None:
        """Take the next rows. With a pool this returns at once."""
        if self._pool is None:
            done: Future[list[Image.Image]] = Future()
            done.set_result(self._narrow(strip))
            self._strips.append(done)
        else:
            self._strips.append(self._pool.submit(self._narrow, strip))

    def finish(self) -> list[Image.Image]:
        """The image in each of the widths, once all of its rows were taken."""
        if len(self._strips) == 1:
            return self._strips[0].result()
        narrowed = [Image.new("RGB", (width, self._height)) for width in self._widths]
        top = 0
        for strip in self._strips:
            parts = strip.result()
            for whole, part in zip(narrowed, parts, strict=True):
                whole.paste(part, (0, top))
            top += parts[0].height
        return narrowed


def shorten(image: Image.Image, left: int, width: int, height: int) -> Image.Image:
    """The second pass: `width` of the columns, from `left` on, to `height` rows."""
    columns = image.crop((left, 0, left + width, image.height))
    return columns.resize((width, height), BICUBIC)


def _narrow(widths: Sequence[int], strip: Image.Image) -> list[Image.Image]:
    return [strip.resize((width, strip.height), BICUBIC) for width in widths]
