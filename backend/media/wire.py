"""The wire between the app and its decoding child: requests in, framed messages out.

    request    one line of JSON on the child's stdin, which stays open while the app wants it
    message    1 byte tag, 4 bytes length, payload; the last one is END or FAULT

Used at both ends. Knows no videos and no processes; whoever reads does not trust what comes.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from typing import IO

HEADER = struct.Struct("<BI")
PATIENCE_S = 60.0  # a child that has a video open waits this long for a further request


class Tag(IntEnum):
    """What a message holds."""

    HEAD = 1  # JSON: the fields of `Head`
    PTS = 2  # int64 little-endian, one for each frame, rising
    MARKS = 3  # uint8, one for each frame: KEY | HIDDEN
    TILE = 4  # uint8 [tile, tile, 3]
    PREVIEW = 5  # JPEG
    FAULT = 6  # the text of a `Fault`
    END = 7  # nothing: everything was said


KEY = 1  # decoding can start at this frame
HIDDEN = 2  # the file's edit list cuts this frame off


class Fault(StrEnum):
    """Why the child gave up. Words for people stand in `backend.media.video`."""

    UNREADABLE = "unreadable"
    CUT_OFF = "cut off"
    NO_PICTURES = "no pictures"
    UNKNOWN_CODEC = "unknown codec"
    DAMAGED = "damaged"
    TOO_LARGE = "too large"
    TOO_LONG = "too long"
    NO_MEMORY = "no memory"
    NO_DECORD = "no decord"
    FOREIGN = "foreign"


class Failed(Exception):
    """The child cannot go on; raised there and told to the app as a FAULT."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Target:
    """A frame to cut: its time stamp, and that of the key frame to decode from."""

    index: int  # among the frames that are shown
    pts: int
    key_pts: int


@dataclass(frozen=True, slots=True)
class Ask:
    """What the app wants: without targets the index of a video, with them these frames of it."""

    path: str
    most_pixels: int  # of a frame
    most_frames: int  # of the video
    memory_bytes: int
    cpu_s: int
    targets: tuple[Target, ...] = ()
    ordered: bool = True  # as in `Head`
    closed: bool = True
    tile: int = 0
    decoder: str = "av"

    def line(self) -> bytes:
        """As it goes over the wire."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Ask":
        """As it came over the wire."""
        fields = json.loads(line)
        fields["targets"] = tuple(Target(**target) for target in fields["targets"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Head:
    """A video as its container describes it."""

    width: int
    height: int
    fps: float
    tick_s: float  # one unit of a time stamp
    ordered: bool  # every frame has a time stamp of its own
    promised_s: float  # the length the container tells, 0 when it does not
    closed: bool  # all are shown, and no frame before a key frame refers to it


def write_message(pipe: IO[bytes], tag: Tag, payload: bytes = b"") -> None:
    """Send one message."""
    pipe.write(HEADER.pack(tag, len(payload)))
    pipe.write(payload)
    pipe.flush()


def read_messages(pipe: IO[bytes], most_bytes: int) -> Iterator[tuple[Tag, bytes]]:
    """Messages until the pipe ends. Raises `ValueError` for more than `most_bytes`, or nonsense."""
    while header := pipe.read(HEADER.size):
        if len(header) < HEADER.size:
            raise ValueError("a message was cut")
        tag, length = HEADER.unpack(header)
        most_bytes -= length + HEADER.size
        if most_bytes < 0:
            raise ValueError("more was sent than was asked for")
        payload = pipe.read(length)
        if len(payload) < length:
            raise ValueError("a message was cut")
        yield Tag(tag), payload
