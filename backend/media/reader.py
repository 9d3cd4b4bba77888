"""The reader: looks at attachments, cuts them, and shows what the model will see of them.

What was made once is kept while there is room, under the content of the file and the choices made
for it, so that looking, previewing and cutting cost one decoding. Knows how images and videos are
read only by asking `images` and `video`.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from backend.conversation import Attachment, Kind
from backend.errors import BadFile, BadSetting
from backend.media.children import Children
from backend.media.cutting import Choices, Cutting
from backend.media.frames import choose_frames
from backend.media.images import open_image
from backend.media.limits import MB, Limits
from backend.media.previews import preview_of
from backend.media.recognise import ADD_AGAIN, status
from backend.media.shelf import Shelf
from backend.media.stopping import Stopped, StopSign, never
from backend.media.tiles import choose_grid, count_tiles
from backend.media.video import VideoIndex, cut_frames, index_video
from backend.settings import FRAMES

CORES = min(4, os.cpu_count() or 1)  # that resize pictures: a small pool for all of them
BUSY_LOAD = 2  # programs that want a core, for each there is
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
        fast: bool = False,
    ) -> None:
        """`fast` cuts large pictures several times quicker and nearly right, see `cutting`."""
        self._tile = tile
        self._max_tiles = max_tiles
        self._thumbnail = thumbnail
        self._frames = frames
        self._decoder = decoder
        self._limits = limits
        self._fast = fast
        self._pool = ThreadPoolExecutor(CORES, "resize") if CORES > 1 else None
        self._children = Children()
        self._contents: Shelf[bytes] = Shelf(KEPT_FACTS)
        self._images: Shelf[_Facts] = Shelf(KEPT_FACTS)
        self._videos: Shelf[VideoIndex] = Shelf(limits.index_bytes, lambda index: index.nbytes)
        self._cuts: Shelf[_Cut] = Shelf(limits.cache_bytes, lambda cut: cut.size)

    def prepare(self) -> None:
        """Start a decoding child ahead, so that the first video need not wait for one."""
        self._children.prepare()

    def look(self, file: Attachment, stopped: StopSign = never) -> ImageLook | VideoLook:
        """What the file is and how the choices cut it.

        The first look at an image decodes it, since a header may promise what the file does not
        hold, and keeps the cut; of a video it reads the packets. Later looks, with whatever
        choices, cost nothing.
        """
        if file.kind is Kind.VIDEO:
            return self._look_at_video(file, stopped)
        return self._look_at_image(file, stopped)

    def tiles(self, file: Attachment, stopped: StopSign = never) -> NDArray[np.uint8]:
        """The pixels that the model sees: uint8 [sum(blocks), tile, tile, 3], not to be written."""
        return self._cut(file, stopped).tiles

    def key(self, file: Attachment, stopped: StopSign = never) -> bytes:
        """A name for `tiles(file)`, the same for the same content and choices under any path."""
        content = self._content(file, stopped)
        if file.kind is Kind.VIDEO:
            choices = (*self._chosen(file, self._index_of(file, stopped)),)
        else:
            look = self._look_at_image(file, stopped)
            choices = (look.columns, look.rows)
        return hashlib.sha256(content + repr((file.kind.value, choices)).encode()).digest()

    def previews(self, file: Attachment, stopped: StopSign = never) -> tuple[bytes, ...]:
        """Small JPEGs: of an image one, of a video one for each frame that is sent."""
        return self._cut(file, stopped).previews

    def _cut(self, file: Attachment, stopped: StopSign) -> _Cut:
        if file.kind is Kind.VIDEO:
            return self._cut_video(file, stopped)
        return self._cut_image(file, stopped)

    def _look_at_image(self, file: Attachment, stopped: StopSign) -> ImageLook:
        facts = self._facts_of(file, stopped)
        grid = choose_grid(facts.width, facts.height, self._tiles_of(file), self._tile)
        tiles = count_tiles(grid, self._thumbnail)
        return ImageLook(facts.width, facts.height, *grid, tiles, facts.notice)

    def _facts_of(self, file: Attachment, stopped: StopSign) -> _Facts:
        content = self._content(file, stopped)
        return self._images.get(content, partial(self._examine, file, content, stopped), stopped)

    def _cut_image(self, file: Attachment, stopped: StopSign) -> _Cut:
        self._facts_of(file, stopped)  # whoever comes first decodes, and both shelves are filled
        key = (self._content(file, stopped), self._tiles_of(file))
        return self._cuts.get(key, lambda: self._decode(file)[1], stopped)

    def _examine(self, file: Attachment, content: bytes, stopped: StopSign) -> _Facts:
        """Facts of an image seen for the first time; the cut made on the way is kept as well."""
        facts, cut = self._decode(file)
        self._cuts.get((content, self._tiles_of(file)), lambda: cut, stopped)
        return facts

    def _decode(self, file: Attachment) -> tuple[_Facts, _Cut]:
        choices = Choices(self._tiles_of(file), self._tile, self._thumbnail, self._fast)
        cutting = Cutting(choices, None if _is_busy() else self._pool)
        picture = open_image(file.path, file.name, self._limits, cutting.begin)
        tiles = cutting.finish(picture.image)
        tiles.setflags(write=False)
        facts = _Facts(*cutting.size, picture.notice)
        whole = tiles[-1] if self._thumbnail or len(tiles) == 1 else None
        return facts, _Cut(tiles, (preview_of(picture.image, whole),))

    def _tiles_of(self, file: Attachment) -> int:
        return self._max_tiles if file.max_tiles is None else file.max_tiles

    def _look_at_video(self, file: Attachment, stopped: StopSign) -> VideoLook:
        index = self._index_of(file, stopped)
        head = index.head
        frames = tuple(Frame(at, index.time_s(at)) for at in self._chosen(file, index))
        count = len(index.pts)
        duration_s = count / head.fps
        return VideoLook(head.width, head.height, count, head.fps, duration_s, frames, index.notice)

    def _cut_video(self, file: Attachment, stopped: StopSign) -> _Cut:
        index = self._index_of(file, stopped)
        chosen = self._chosen(file, index)
        key = (self._content(file, stopped), tuple(chosen))
        return self._cuts.get(key, partial(self._film, file, index, chosen, stopped), stopped)

    def _index_of(self, file: Attachment, stopped: StopSign) -> VideoIndex:
        def index() -> VideoIndex:
            return index_video(file.path, file.name, self._limits, stopped, self._children.visit)

        return self._videos.get(self._content(file, stopped), index, stopped)

    def _film(
        self, file: Attachment, index: VideoIndex, chosen: list[int], stopped: StopSign
    ) -> _Cut:
        film = cut_frames(
            file.path,
            file.name,
            index,
            chosen,
            self._tile,
            self._decoder,
            self._limits,
            stopped,
            self._children.visit,
        )
        film.tiles.setflags(write=False)
        return _Cut(film.tiles, film.previews)

    def _chosen(self, file: Attachment, index: VideoIndex) -> list[int]:
        samples = self._frames if file.frames is None else file.frames
        try:
            return choose_frames(len(index.pts), index.head.fps, samples, file.start_s, file.end_s)
        except BadSetting as error:
            raise BadSetting(f"{file.name}: {error.cause}", error.advice) from None

    def _content(self, file: Attachment, stopped: StopSign) -> bytes:
        """A name for the file's content, known at once for a file that has not changed."""
        now = status(file.path, file.name)
        fast = (file.path, now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)
        return self._contents.get(fast, partial(_digest, file, stopped), stopped)


def _is_busy() -> bool:
    """Whether the cores are so wanted that a pool's threads would only push each other aside."""
    if not hasattr(os, "getloadavg"):  # Windows
        return False
    return os.getloadavg()[0] > BUSY_LOAD * (os.cpu_count() or 1)


def _digest(file: Attachment, stopped: StopSign) -> bytes:
    digest = hashlib.sha256()
    try:
        with open(file.path, "rb") as stream:
            while chunk := stream.read(4 * MB):
                if stopped():
                    raise Stopped
                digest.update(chunk)
    except OSError:
        raise BadFile(file.name, "the file cannot be read.", ADD_AGAIN) from None
    return digest.digest()
