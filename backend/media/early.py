"""Rows of a JPEG as they are decoded, for whoever can begin before the last one is there.

Pillow decodes block by block as it reads. Its memory is black at first and is filled from the top,
so a row with any colour tells that those above it are finished. Of a progressive JPEG, and below
the last row with colour, nothing comes before the end.
"""

from collections.abc import Callable

from PIL import Image, ImageFile

from backend.media.resize import STRIP_ROWS


class EarlyRows:
    """Hands strips of an opened, not yet decoded JPEG to `take`, from top to bottom.

    `finish` hands over what is left, once the image was decoded.
    """

    def __init__(self, image: ImageFile.ImageFile, take: Callable[[Image.Image], None]) -> None:
        self._image = image
        self._take = take
        self._view = Image.new(image.mode, image.size, None)
        self._done = 0  # rows that were handed over
        if hasattr(image, "load_read"):  # else all comes at the end
            self._read = image.load_read
            image.load_read = self._look_and_read

    def finish(self) -> None:
        """Hand over the rows that were not there early."""
        self._hand_over(self._image, self._image.height)

    def _look_and_read(self, count: int) -> bytes:
        """As the image's own `load_read`, which is called between two blocks."""
        self._view.im = self._image.im
        first = self._done + STRIP_ROWS
        for top in reversed(range(first, self._image.height, STRIP_ROWS)):
            if self._view.crop((0, top, self._view.width, top + 1)).getbbox():
                self._hand_over(self._view, top)
                break
        block: bytes = self._read(count)
        return block

    def _hand_over(self, image: Image.Image, end: int) -> None:
        while self._done < end:
            below = min(self._done + STRIP_ROWS, end)
            self._take(image.crop((0, self._done, image.width, below)))
            self._done = below
