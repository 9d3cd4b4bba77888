"""Rows of a JPEG as they are decoded, for whoever can begin before the last one is there.

Pillow decodes block by block as it reads. Its memory is black at first and is filled from the top,
so a row with any colour tells that those above it are finished. Of a progressive JPEG, and below
the last row with colour, nothing comes before the end.
"""

from collections.abc import Callable
from weakref import ref

from PIL import Image, ImageFile

from backend.media.resize import STRIP_ROWS


class EarlyRows:
    """Hands strips of an opened, not yet decoded JPEG to `take`, from top to bottom.

    `finish` hands over what is left, once the image was decoded.
    """

    def __init__(self, image: ImageFile.ImageFile, take: Callable[[Image.Image], None]) -> None:
        self._image = ref(image)  # which holds this: in a circle its memory would outlive its use
        self._take = take
        self._view = Image.new(image.mode, image.size, None)
        self._done = 0  # rows that were handed over
        if hasattr(image, "load_read"):  # else all comes at the end
            self._read = type(image).load_read
            image.load_read = self._look_and_read

    def finish(self, image: Image.Image) -> None:
        """Hand over the rows that were not there early."""
        self._hand_over(image, image.height)

    def _look_and_read(self, count: int) -> bytes:
        """As the image's own `load_read`, which is called between two blocks."""
        image = self._image()
        assert image is not None
        self._view.im = image.im
        first = self._done + STRIP_ROWS
        for top in reversed(range(first, image.height, STRIP_ROWS)):
            if self._view.crop((0, top, image.width, top + 1)).getbbox():
                self._hand_over(self._view, top)
                break
        block: bytes = self._read(image, count)
        return block

    def _hand_over(self, image: Image.Image, end: int) -> None:
        while self._done < end:
            below = min(self._done + STRIP_ROWS, end)
            self._take(image.crop((0, self._done, image.width, below)))
            self._done = below
