"""Videos, seen from the app: asks the decoding child and checks all it says.

No byte of a video is parsed in this process. Knows no choices of frames and no caches.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.conversation import Kind
from backend.errors import BadFile
from backend.media.limits import MB, Limits
from backend.media.previews import MOST_BYTES
from backend.media.recognise import ADD_AGAIN, AS_VIDEO, examine, status
from backend.media.stopping import StopSign, never
from backend.media.visit import Broke, Message, TimedOut, visit
from backend.media.wire import HEADER, HIDDEN, KEY, Ask, Fault, Head, Tag, Target

SHORTEN = "Cut out the part you mean, or make the video smaller, and add that."
MISSING_S, MISSING_SHARE = 0.5, 0.05  # sound may well last this much longer than the pictures
REASONS = {
    Fault.UNREADABLE: ("the video is damaged, or cut off before its end.", ADD_AGAIN),
    Fault.CUT_OFF: ("the video is cut off: its end is missing.", ADD_AGAIN),
    Fault.NO_PICTURES: ("this has no moving pictures, at most sound.", "Add a video."),
    Fault.UNKNOWN_CODEC: ("nothing here can decode this kind of video.", AS_VIDEO),
    Fault.DAMAGED: ("some frames of the video are damaged.", f"{ADD_AGAIN} {AS_VIDEO}"),
    Fault.TOO_LARGE: ("its frames are too large to decode.", "Make the video smaller, as 4K."),
    Fault.TOO_LONG: ("the video has too many frames.", SHORTEN),
    Fault.NO_MEMORY: ("decoding takes too much memory.", "Make the video smaller, as 1080p."),
    Fault.NO_DECORD: ("decord is not installed.", "Start with --decoder av."),
    Fault.FOREIGN: (
        "decord cannot decode this video.",
        f"Start with --decoder av, or: {AS_VIDEO}",
    ),
}


Asked = Callable[[Ask, int, float, StopSign], list[Message]]


@dataclass(frozen=True, slots=True, eq=False)
class VideoIndex:
    """All frames of a video, in the order in which they are shown."""

    head: Head
    pts: NDArray[np.int64]  # [frames], in ticks, rising
    marks: NDArray[np.uint8]  # [frames], KEY | HIDDEN

    @property
    def notice(self) -> str:
        """What a person should know: whether a good part of the promised pictures is missing."""
        there_s, promised_s = len(self.pts) / self.head.fps, self.head.promised_s
        if promised_s - there_s <= max(MISSING_S, MISSING_SHARE * promised_s):
            return ""
        return f"cut off: its pictures end at {there_s:.1f} s of {promised_s:.1f} s"

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self.pts.nbytes + self.marks.nbytes

    def time_s(self, index: int) -> float:
        """When a frame is shown, in seconds after the first one that is."""
        seen = self._seen()
        ticks = int(self.pts[seen[self._place(index)]] - self.pts[seen[0]])
        return ticks * self.head.tick_s

    def target(self, index: int) -> Target:
        """How to reach a frame: from the last key frame before it."""
        place = self._place(index)
        at = int(self._seen()[place])
        keys = self.pts[: at + 1][(self.marks[: at + 1] & KEY) != 0]
        return Target(place, int(self.pts[at]), int(keys[-1] if len(keys) else self.pts[0]))

    def _seen(self) -> NDArray[np.intp]:
        """Indices of the frames that no edit list cuts off; of all if it leaves none."""
        seen = np.flatnonzero((self.marks & HIDDEN) == 0)
        return seen if len(seen) else np.arange(len(self.pts))

    def _place(self, index: int) -> int:
        """Where among those stands the frame for `index`: itself, or the next that is seen."""
        seen = self._seen()
        return min(int(np.searchsorted(seen, index)), len(seen) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """Frames of a video as the model sees them and as people do."""

    tiles: NDArray[np.uint8]  # [frames, tile, tile, 3]
    previews: tuple[bytes, ...]


def index_video(
    path: str, name: str, limits: Limits, stopped: StopSign = never, asked: Asked = visit
) -> VideoIndex:
    """What frames the video at `path` has. Raises `BadFile`, and `Stopped`.

    `asked` brings the question to a child: to a new one as `visit` does, or to one at hand.
    """
    if examine(path, name).kind is not Kind.VIDEO:
        raise BadFile(name, "this is not a video.", AS_VIDEO)
    if status(path, name).st_size > limits.video_bytes:
        raise BadFile(name, f"the file is larger than {limits.video_bytes // MB} MB.", SHORTEN)
    most_bytes = 9 * limits.video_frames + 4096
    messages = _visit(_ask(path, limits), name, most_bytes, limits, stopped, asked)
    try:
        return _read_index(messages)
    except (ValueError, TypeError):
        raise _broken(name) from None


def cut_frames(
    path: str,
    name: str,
    index: VideoIndex,
    indices: Sequence[int],
    tile: int,
    decoder: str,
    limits: Limits,
    stopped: StopSign = never,
    asked: Asked = visit,
) -> Film:
    """The frames at `indices`, which rise, each squeezed into one tile of `tile` px.

    That is the card's `max_num=1`. `decoder` is "av" or "decord". Raises `BadFile`, `Stopped`.
    """
    targets = tuple(dict.fromkeys(map(index.target, indices)))
    ask = _ask(path, limits, index.head, targets, tile, decoder)
    most_bytes = len(targets) * (3 * tile * tile + MOST_BYTES + 2 * HEADER.size) + 4096
    messages = _visit(ask, name, most_bytes, limits, stopped, asked)
    try:
        film = _read_film(messages, len(targets), tile)
    except ValueError:
        raise _broken(name) from None
    places = [targets.index(index.target(at)) for at in indices]
    return Film(film.tiles[places], tuple(film.previews[place] for place in places))


def _ask(
    path: str,
    limits: Limits,
    head: Head | None = None,
    targets: tuple[Target, ...] = (),
    tile: int = 0,
    decoder: str = "av",
) -> Ask:
    return Ask(
        path=os.path.abspath(path),  # the child works in a folder of its own
        most_pixels=limits.video_pixels,
        most_frames=limits.video_frames,
        memory_bytes=limits.child_bytes,
        cpu_s=limits.child_cpu_s,
        targets=targets,
        ordered=head is None or head.ordered,
        closed=head is None or head.closed,
        tile=tile,
        decoder=decoder,
    )


def _visit(
    ask: Ask, name: str, most_bytes: int, limits: Limits, stopped: StopSign, asked: Asked
) -> dict[Tag, list[bytes]]:
    try:
        messages = asked(ask, most_bytes, limits.child_s, stopped)
    except TimedOut:
        cause = f"it takes longer than {limits.child_s:g} s to decode."
        raise BadFile(name, cause, SHORTEN) from None
    except Broke:
        raise _broken(name) from None
    tag, payload = messages[-1]
    if tag is Tag.FAULT:
        raise _told(name, payload)
    return _by_tag(messages)


def _by_tag(messages: Sequence[Message]) -> dict[Tag, list[bytes]]:
    found: dict[Tag, list[bytes]] = {tag: [] for tag in Tag}
    for tag, payload in messages:
        found[tag].append(payload)
    return found


def _told(name: str, payload: bytes) -> BadFile:
    """What the child said is wrong, in our own words: its text is never shown."""
    try:
        cause, advice = REASONS[Fault(payload.decode("ascii", "replace"))]
    except ValueError:
        return _broken(name)
    return BadFile(name, cause, advice)


def _broken(name: str) -> BadFile:
    cause = "the decoder gave up: the video is damaged, or takes too much memory or time."
    return BadFile(name, cause, f"Make it smaller. {AS_VIDEO}")


def _read_index(messages: dict[Tag, list[bytes]]) -> VideoIndex:
    """Raises `ValueError` or `TypeError` unless everything fits together."""
    (head_json,), (pts_bytes,), (marks_bytes,) = (
        messages[tag] for tag in (Tag.HEAD, Tag.PTS, Tag.MARKS)
    )
    head = Head(**json.loads(head_json))
    pts, marks = np.frombuffer(pts_bytes, "<i8"), np.frombuffer(marks_bytes, "u1")
    sane = head.width > 0 and head.height > 0 and 0 < head.fps < 1e6 and head.tick_s > 0
    if not sane or not len(pts) or len(pts) != len(marks) or (np.diff(pts) <= 0).any():
        raise ValueError("the index contradicts itself")
    return VideoIndex(head, pts, marks)


def _read_film(messages: dict[Tag, list[bytes]], count: int, tile: int) -> Film:
    """Raises `ValueError` unless there are `count` tiles of the right size, and previews."""
    tiles, previews = messages[Tag.TILE], messages[Tag.PREVIEW]
    if len(tiles) != count or len(previews) != count:
        raise ValueError("another number of frames came than was asked for")
    if not all(jpeg.startswith(b"\xff\xd8\xff") for jpeg in previews):
        raise ValueError("a preview is no JPEG")
    pixels = np.frombuffer(b"".join(tiles), np.uint8).reshape(count, tile, tile, 3)
    return Film(pixels, tuple(previews))
