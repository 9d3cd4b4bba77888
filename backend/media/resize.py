"""Resizing on several cores, to the very pixels that `Image.resize` gives on one.

Pillow resizes rows first and columns then, and rounds to 8 bits in between (`ImagingResample` in
src/libImaging/Resample.c, Pillow 12). No row looks at another in the first pass, and no column at
another in the second, so each pass can be done in strips. Knows no tiles and no files.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from PIL import Image

STRIP_ROWS = 256  # of a photograph: enough strips for the cores, few enough to cost nothing
BICUBIC = Image.Resampling.BICUBIC

Part = TypeVar("Part")
Made = TypeVar("Made")


def each(
    pool: Executor | None, work: Callable[[Part], Made], parts: Iterable[Part]
) -> Iterator[Made]:
    """What `work` makes of each part, in order; with a pool, parts are begun as they come."""
    return map(work, parts) if pool is None else pool.map(work, parts)


def strips_of(image: Image.Image, rows: int) -> Iterator[Image.Image]:
    """The image from top to bottom in strips of `rows` rows, the last one of what is left."""
    if image.height <= rows:
        yield image  # without a copy
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def narrow(
    strips: Iterable[Image.Image], height: int, widths: Sequence[int], pool: Executor | None
) -> list[Image.Image]:
    """The first pass, to several widths: RGB images of `height` rows, the strips' together."""
    narrowed: list[Image.Image] = []
    top = 0
    for parts in each(pool, partial(_narrow, widths), strips):
        if parts[0].height == height:
            return parts
        narrowed = narrowed or [Image.new("RGB", (width, height)) for width in widths]
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
