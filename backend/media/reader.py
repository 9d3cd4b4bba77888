"""The reader: looks at attachments, cuts them, and shows what the model will see of them.

What was made once is kept while there is room, under the content of the file and the choices made
for it, so that looking, previewing and cutting cost one decoding. Knows how images and videos are
read only by asking `images` and `video`.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from backend.conversation import Attachment
from backend.media.images import open_image, preview_of
from backend.media.limits import MB, Limits
from backend.media.recognise import status
from backend.media.shelf import Shelf
from backend.media.stopping import Stopped, StopSign, never
from backend.media.tiles import choose_grid, count_tiles, cut_tiles
from backend.settings import FRAMES

KEPT_FACTS = 10_000  # files whose content and size are remembered; some hundred bytes each


@dataclass(frozen=True, slots=True)
class ImageLook:
    """An image: its size in px after Exif, and how it is cut."""

    width: int
    height: int
    columns: int
    rows: int
    tiles: int  # the thumbnail counted
    notice: str = ""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Tiles behind each `<image>` of this file."""
        return (self.tiles,)


@dataclass(frozen=True, slots=True)
class Frame:
    """A chosen frame: its index in the video and its time since the first frame."""

    index: int
    time_s: float


@dataclass(frozen=True, slots=True)
class VideoLook:
    """A video: its size in px as it is shown, its length, and the frames that are chosen."""

    width: int
    height: int
    frame_count: int
    fps: float
    duration_s: float
    frames: tuple[Frame, ...]
    notice: str = ""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Tiles behind each `<image>` of this file: one for every frame."""
        return (1,) * len(self.frames)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What an image is, apart from any choice."""

    width: int
    height: int
    notice: str


@dataclass(frozen=True, slots=True)
class _Cut:
    """A decoded file under one set of choices."""

    tiles: NDArray[np.uint8]
    previews: tuple[bytes, ...]

    @property
    def size(self) -> int:
        return self.tiles.nbytes + sum(map(len, self.previews))


class MediaReader:
    """Reads the files of a checkpoint that wants tiles of `tile` px. Thread-safe.

    `max_tiles` and `frames` hold where an attachment makes no choice of its own. Every method
    raises `BadFile` for what cannot be used and `Stopped` soon after `stopped()` became true.
    """

    def __init__(
        self,
        tile: int,
        max_tiles: int,
        thumbnail: bool,
        frames: int = FRAMES,
        decoder: str = "av",
        limits: Limits = Limits(),  # noqa: B008  (frozen)
    ) -> None:
        self._tile = tile
        self._max_tiles = max_tiles
        self._thumbnail = thumbnail
        self._frames = frames
        self._decoder = decoder
        self._limits = limits
        self._contents: Shelf[bytes] = Shelf(KEPT_FACTS)
        self._images: Shelf[_Facts] = Shelf(KEPT_FACTS)
        self._cuts: Shelf[_Cut] = Shelf(limits.cache_bytes, lambda cut: cut.size)

    def look(self, file: Attachment, stopped: StopSign = never) -> ImageLook | VideoLook:
        """What the file is and how the choices cut it."""
        return self._look_at_image(file, stopped)

    def tiles(self, file: Attachment, stopped: StopSign = never) -> NDArray[np.uint8]:
        """The pixels that the model sees: uint8 [sum(blocks), tile, tile, 3], not to be written."""
        return self._cut(file, stopped).tiles

    def previews(self, file: Attachment, stopped: StopSign = never) -> tuple[bytes, ...]:
        """Small JPEGs: of an image one, of a video one for each frame that is sent."""
        return self._cut(file, stopped).previews

    def _look_at_image(self, file: Attachment, stopped: StopSign) -> ImageLook:
        facts = self._facts_of(file, stopped)
        grid = choose_grid(facts.width, facts.height, self._tiles_of(file), self._tile)
        tiles = count_tiles(grid, self._thumbnail)
        return ImageLook(facts.width, facts.height, *grid, tiles, facts.notice)

    def _facts_of(self, file: Attachment, stopped: StopSign) -> _Facts:
        content = self._content(file, stopped)
        return self._images.get(content, partial(self._examine, file, content, stopped), stopped)

    def _cut(self, file: Attachment, stopped: StopSign) -> _Cut:
        self._facts_of(file, stopped)  # whoever comes first decodes, and both shelves are filled
        key = (self._content(file, stopped), self._tiles_of(file))
        return self._cuts.get(key, lambda: self._decode(file)[1], stopped)

    def _examine(self, file: Attachment, content: bytes, stopped: StopSign) -> _Facts:
        """Facts of an image seen for the first time; the cut made on the way is kept as well."""
        facts, cut = self._decode(file)
        self._cuts.get((content, self._tiles_of(file)), lambda: cut, stopped)
        return facts

    def _decode(self, file: Attachment) -> tuple[_Facts, _Cut]:
        picture = open_image(file.path, file.name, self._limits)
        image = picture.image
        tiles = cut_tiles(image, self._tiles_of(file), self._tile, self._thumbnail)
        tiles.setflags(write=False)
        facts = _Facts(image.width, image.height, picture.notice)
        return facts, _Cut(tiles, (preview_of(image),))

    def _tiles_of(self, file: Attachment) -> int:
        return self._max_tiles if file.max_tiles is None else file.max_tiles

    def _content(self, file: Attachment, stopped: StopSign) -> bytes:
        """A name for the file's content, known at once for a file that has not changed."""
        now = status(file.path, file.name)
        fast = (file.path, now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
        return self._contents.get(fast, partial(_digest, file.path, stopped), stopped)


def _digest(path: str, stopped: StopSign) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        digest.update(os.fstat(file.fileno()).st_size.to_bytes(8, "big"))
        while chunk := file.read(4 * MB):
            if stopped():
                raise Stopped
            digest.update(chunk)
    return digest.digest()
