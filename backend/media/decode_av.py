"""PyAV in the decoding child: what frames a video has, and some of them as pixels.

Runs only in the child, under its limits. A file may hold anything: only known containers are
opened, and only from the disk.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from backend.media.wire import HIDDEN, KEY, Ask, Failed, Fault, Head, Target

CONTAINERS = "mov,mp4,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,asf,ogg"
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "enable_drefs": "0"}
FEW_PIXELS = 10_000_000  # larger frames are decoded by one thread: each thread keeps some
THREADS = min(4, os.cpu_count() or 1)
STRAY_S = 1.0  # a frame that the decoder dropped is replaced by a neighbour within this time


@dataclass(frozen=True, slots=True)
class Index:
    """All frames of a video in the order in which they are shown."""

    head: Head
    pts: NDArray[np.int64]
    marks: NDArray[np.uint8]


@dataclass(slots=True)
class _Packets:
    """What demuxing found, in the order of the file, and the first frame that was decoded."""

    pts: list[int] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    stamped: bool = True
    first: VideoFrame | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """A video that is open, and its stream that a player shows."""

    container: InputContainer
    stream: VideoStream


@contextmanager
def open_video(ask: Ask) -> Iterator[Video]:
    """The asked file, open. Raises `Failed` if it is no video or its frames are too large."""
    with _open_container(ask) as container:
        yield Video(container, _best_stream(container, ask))


def index_video(video: Video, ask: Ask) -> Index:
    """Go through the packets, decoding one frame. The count is that of decord's `len`.

    The video must have been opened just before. Raises `Failed`.
    """
    container, stream = video.container, video.stream
    packets = _demux(container, stream, ask.most_frames)
    count = len(packets.pts)
    if stream.frames > count and "mov" in container.format.name:
        raise Failed(Fault.CUT_OFF)
    if not count:
        raise Failed(Fault.NO_PICTURES)
    if packets.first is None:
        raise Failed(Fault.DAMAGED)
    tick_s, duration = float(stream.time_base or 0), stream.duration or 0
    promised_s = (container.duration or 0) / av.time_base
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    fps = fps or (count / (duration * tick_s) if duration * tick_s > 0 else 1.0)
    pts, marks = np.array(packets.pts, np.int64), np.array(packets.marks, np.uint8)
    closed = _is_closed(pts, marks)
    order = np.argsort(pts, kind="stable")
    ordered = packets.stamped and bool((np.diff(pts[order]) > 0).all())
    if not ordered:
        pts, marks, order, tick_s = np.arange(count), marks * 0, np.arange(count), 1 / fps
    width, height = _shown_size(packets.first)
    head = Head(width, height, fps, tick_s, ordered, promised_s, closed)
    return Index(head, pts[order], marks[order])


def frames_of(video: Video, ask: Ask) -> Iterator[VideoFrame]:
    """The asked frames, in the order of the targets, which come by rising index.

    Raises `Failed`.
    """
    if not ask.ordered:
        with open_video(ask) as anew:
            yield from _count_to(anew, ask)
        return
    walk = _Walk(video)
    for target in ask.targets:
        yield walk.reach(target)


class _Walk:
    """Decodes forward from target to target; jumps only where a key frame lies between."""

    def __init__(self, video: Video) -> None:
        self._container = video.container
        self._stream = video.stream
        self._frames: Iterator[VideoFrame] = iter(())
        self._frame: VideoFrame | None = None
        self._fresh = True  # nothing was decoded since the last jump

    def reach(self, target: Target) -> VideoFrame:
        """The frame of `target`, or its nearest neighbour where the decoder dropped it."""
        if self._frame is None or target.key_pts > pts_of(self._frame):
            self._jump(target.key_pts)
        frame = self._forward(target.pts)
        if self._landed_late(frame, target):
            self._jump(None)
            frame = self._forward(target.pts)
        if frame is None or abs(pts_of(frame) - target.pts) * self._tick_s > STRAY_S:
            raise Failed(Fault.DAMAGED)
        return frame

    @property
    def _tick_s(self) -> float:
        return float(self._stream.time_base or 0)

    def _jump(self, pts: int | None) -> None:
        """To the key frame at `pts`, or to the start of the file."""
        start = self._stream.start_time or 0
        where = min(start, 0) - int(10 / self._tick_s) if pts is None else pts
        self._container.seek(where, stream=self._stream, backward=True)
        self._frames = _decode(self._container, self._stream)
        self._frame = None
        self._fresh = True

    def _forward(self, pts: int) -> VideoFrame | None:
        while self._frame is None or pts_of(self._frame) < pts:
            following = next(self._frames, None)
            if following is None:
                break
            self._fresh = self._frame is None
            self._frame = following
        return self._frame

    def _landed_late(self, frame: VideoFrame | None, target: Target) -> bool:
        """Whether a jump went past the target, as some containers' own indices do."""
        return frame is None or (self._fresh and pts_of(frame) > target.pts)


def _open_container(ask: Ask) -> InputContainer:
    try:
        return av.open(f"file:{ask.path}", container_options=OPTIONS, metadata_errors="replace")
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError):
        raise Failed(Fault.UNREADABLE) from None


def _best_stream(container: InputContainer, ask: Ask) -> VideoStream:
    stream: Any = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        raise Failed(Fault.NO_PICTURES)  # at most the cover of a record
    if stream.codec_context is None:
        raise Failed(Fault.UNKNOWN_CODEC)
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > ask.most_pixels:
        raise Failed(Fault.TOO_LARGE)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = THREADS if pixels <= FEW_PIXELS else 1
    chosen: VideoStream = stream
    return chosen


def upright(frame: VideoFrame, most_pixels: int) -> NDArray[np.uint8]:
    """A frame as RGB, turned as a player turns it. Raises `Failed` for a damaged one."""
    if frame.is_corrupt:
        raise Failed(Fault.DAMAGED)
    if frame.width * frame.height > most_pixels:
        raise Failed(Fault.TOO_LARGE)
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    return np.rot90(pixels, frame.rotation // 90) if frame.rotation % 90 == 0 else pixels


def pts_of(frame: VideoFrame) -> int:
    """When the frame is shown, in ticks. Raises `Failed` if nobody knows."""
    if frame.pts is None:
        raise Failed(Fault.DAMAGED)
    return frame.pts


def _demux(container: InputContainer, stream: VideoStream, most: int) -> _Packets:
    found = _Packets()
    for packet in container.demux(stream):
        if found.first is None:
            found.first = _first_of(packet)
        if not packet.size:
            continue
        if len(found.pts) == most:
            raise Failed(Fault.TOO_LONG)
        found.stamped &= packet.pts is not None
        found.pts.append(packet.pts or 0)
        found.marks.append(KEY * packet.is_keyframe | HIDDEN * packet.is_discard)
    return found


def _first_of(packet: "Packet[VideoStream]") -> VideoFrame | None:
    """The first frame that comes out of the decoder for a packet, if any does yet."""
    with _damage_told():
        frames = packet.decode()
    return frames[0] if frames else None


def _is_closed(pts: NDArray[np.int64], marks: NDArray[np.uint8]) -> bool:
    """Whether every frame is shown, and after each key frame of the file only later ones come."""
    last_key = np.maximum.accumulate(np.where(marks & KEY, np.arange(len(pts)), 0))
    return not (marks & HIDDEN).any() and bool((pts >= pts[last_key]).all())


def _shown_size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height of a frame as it is shown, which containers may tell wrongly."""
    turned = frame.rotation % 180 == 90
    return (frame.height, frame.width) if turned else (frame.width, frame.height)


def _count_to(video: Video, ask: Ask) -> Iterator[VideoFrame]:
    """Frames without time stamps: the n-th is the n-th that comes; the last stands for more."""
    frames = enumerate(_decode(video.container, video.stream))
    count, frame = next(frames, (0, None))
    for target in ask.targets:
        while count < target.index:
            following = next(frames, None)
            if following is None:
                break
            count, frame = following
        if frame is None:
            raise Failed(Fault.DAMAGED)
        yield frame


def _decode(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    with _damage_told():
        yield from container.decode(stream)


@contextmanager
def _damage_told() -> Iterator[None]:
    """What a decoder says of damaged data, as `Failed`."""
    try:
        yield
    except (av.error.InvalidDataError, av.error.EOFError):
        raise Failed(Fault.DAMAGED) from None
