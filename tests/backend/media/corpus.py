"""Files to try the media with, made here: good ones, odd ones, and ones made to hurt."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

RATE = 25  # frames per second of the videos


def picture(width: int = 64, height: int = 48) -> Image.Image:
    """Red left, blue right, a green bar on top: tells sides, turns and colours apart."""
    image = Image.new("RGB", (width, height), (200, 30, 40))
    image.paste((20, 60, 220), (width // 2, 0, width, height))
    image.paste((30, 160, 60), (0, 0, width, height // 4))
    return image


def png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG from its parts, as Pillow would not write it. `rows` include the filter bytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", zlib.compress(rows, 9))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IEND", b"")


def bomb(width: int, height: int) -> bytes:
    """A small 1-bit PNG that is really complete and really as large as it says."""
    return png(width, height, 1, 0, bytes((1 + (width + 7) // 8) * height))


def scene(at: int, width: int, height: int) -> NDArray[np.uint8]:
    """Frame `at`: a background that tells the number, and a bar that moves."""
    frame = np.full((height, width, 3), (at * 9 % 256, at * 5 % 256, 120), np.uint8)
    left = at * 3 % max(1, width - 4)
    frame[height // 4 : height // 2, left : left + 4] = (250, 250, 20)
    return frame


def video(
    path: Path,
    codec: str = "libx264",
    frames: int = 40,
    size: tuple[int, int] = (64, 48),
    *,
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
    times: list[int] | None = None,
) -> Path:
    """A video made with PyAV; `times` are ticks of 1/RATE s for frames that come unevenly."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, RATE)
        for at in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(at, *size), format="rgb24")
            frame.pts = times[at] if times else at
            frame.time_base = Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def sound(path: Path) -> Path:
    """A file with sound and nothing to see."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=44100)
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def remuxed(source: Path, path: Path, options: dict[str, str]) -> Path:
    """The same video written again by a muxer with other options."""
    with av.open(str(source)) as old, av.open(str(path), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return path


def turned(source: Path, path: Path) -> Path:
    """The same MP4 with a track header that says: turn me by a quarter."""
    content = bytearray(source.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # the matrix stands 40 bytes into a version 0 box
    content[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def every_frame(path: Path) -> list[NDArray[np.uint8]]:
    """All frames of a video one after the other, without any seeking: the truth."""
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90) for f in frames]
