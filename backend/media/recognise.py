"""What a file is, by its first bytes; never by its name, which anybody can choose.

Only what is an image or a video by its signature goes on to a decoder. Text, playlists and scripts
end here, before anything could follow what they point to. Knows no decoder.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from backend.conversation import Attachment, Kind
from backend.errors import BadFile

HEAD_BYTES = 4096
AS_IMAGE = "Save it as JPEG or PNG and add that."
AS_VIDEO = "Save it as MP4 (H.264) and add that."
ADD_AGAIN = "Add the file again."


@dataclass(frozen=True, slots=True)
class Found:
    """What the first bytes say: an image or a video with its container, or why it is neither."""

    kind: Kind | None
    format: str
    advice: str = AS_IMAGE


@dataclass(frozen=True, slots=True)
class Signature:
    """Bytes at an offset that tell a format."""

    magic: bytes
    found: Found
    offset: int = 0
    also: tuple[int, bytes] = field(default=(0, b""))

    def fits(self, head: bytes) -> bool:
        """Whether a file that begins with `head` is of this format."""
        at, more = self.also
        return head.startswith(self.magic, self.offset) and head.startswith(more, at)


def attach(path: str, name: str | None = None, **choices: Any) -> Attachment:
    """The file as an attachment, its kind found out from its content.

    `name` is what the person calls it, else the last part of the path; `choices` are those of
    `Attachment`. Raises `BadFile` for what is neither an image nor a video, `BadSetting` for a
    choice outside its range.
    """
    name = PurePath(path).name if name is None else name
    found = examine(path, name)
    if found.kind is None:
        raise BadFile(name, f"this is {found.format}, not an image or a video.", found.advice)
    return Attachment(path, found.kind, name, **choices)


def examine(path: str, name: str) -> Found:
    """What the file at `path` is. Raises `BadFile` when it is not there, not a file, or empty."""
    status(path, name)
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        raise BadFile(name, "the file cannot be read.", ADD_AGAIN) from None
    if not head:
        raise BadFile(name, "the file is empty.", ADD_AGAIN)
    return _identify(head)


def status(path: str, name: str) -> os.stat_result:
    """Size and times of a regular file. Raises `BadFile` for anything else, without opening it."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise BadFile(name, "there is no such file.", "Add it again, or check its name.") from None
    except (OSError, ValueError):  # ValueError: a NUL in the path
        raise BadFile(name, "the file cannot be read.", ADD_AGAIN) from None
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
        raise BadFile(name, f"this is {what}, not a file.", "Add an image or a video.")
    return found


def _identify(head: bytes) -> Found:
    for signature in SIGNATURES:
        if signature.fits(head):
            return signature.found
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[4:8] in (b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"):
        return Found(Kind.VIDEO, "mov")
    if _is_transport_stream(head):
        return Found(Kind.VIDEO, "mpegts")
    if head.startswith(b"ID3") or _is_mp3(head):
        return AUDIO
    return _identify_text(head)


def _by_brand(head: bytes) -> Found:
    """ISO files (MP4, HEIC, AVIF, M4A, …) name their kind in the `ftyp` box (ISO/IEC 14496-12)."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, length, 4))}
    if head[8:12] in (b"M4A ", b"M4B "):
        return AUDIO
    if brands & {b"avif", b"avis"}:
        return Found(Kind.IMAGE, "AVIF")
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return Found(Kind.IMAGE, "HEIF")
    if head[8:12] == b"jp2 ":
        return Found(None, "a JPEG 2000 image")
    return Found(Kind.VIDEO, "mov")


def _is_transport_stream(head: bytes) -> bool:
    """MPEG-TS: packets of 188 bytes (192 with Blu-ray's time codes), each beginning with 0x47."""
    for length, first in ((188, 0), (192, 4)):
        marks = head[first::length][:8]
        if len(marks) >= 3 and set(marks) == {0x47}:
            return True
    return False


def _is_mp3(head: bytes) -> bool:
    """A frame of MPEG audio: eleven set bits. 0xFFFE begins a text in UTF-16 instead."""
    return head[0] == 0xFF and head[1:2] >= b"\xe0" and head[1:2] != b"\xfe"


def _identify_text(head: bytes) -> Found:
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Found(None, "an unknown kind of file")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"#extm3u", b"[playlist]", b"ffconcat", b"[reference]")):
        return Found(None, "a playlist, which only names other files", "Add the video itself.")
    if b"<svg" in start:
        return Found(None, "an SVG drawing", "Export it as PNG and add that.")
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return Found(None, "a web page", "Save the picture itself and add that.")
    return Found(None, "text or an unknown kind of file", "Add an image or a video.")


def _image(magic: bytes, name: str, also: tuple[int, bytes] = (0, b"")) -> Signature:
    return Signature(magic, Found(Kind.IMAGE, name), also=also)


def _video(magic: bytes, name: str, also: tuple[int, bytes] = (0, b"")) -> Signature:
    return Signature(magic, Found(Kind.VIDEO, name), also=also)


AUDIO = Found(None, "a sound recording", "Add a video with pictures.")
DOCUMENT = "Export its pages as images and add those."

SIGNATURES = (
    _image(b"\xff\xd8\xff", "JPEG"),
    _image(b"\x89PNG\r\n\x1a\n", "PNG"),
    _image(b"GIF87a", "GIF"),
    _image(b"GIF89a", "GIF"),
    _image(b"RIFF", "WEBP", (8, b"WEBP")),
    _image(b"BM", "BMP", (6, b"\0\0\0\0")),
    _image(b"II*\0", "TIFF"),
    _image(b"MM\0*", "TIFF"),
    _video(b"\x1a\x45\xdf\xa3", "matroska"),
    _video(b"RIFF", "avi", (8, b"AVI ")),
    _video(b"FLV\x01", "flv"),
    _video(b"OggS", "ogg"),
    _video(b"\0\0\x01\xba", "mpeg"),
    _video(b"\0\0\x01\xb3", "mpegvideo"),
    _video(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    Signature(b"RIFF", AUDIO, also=(8, b"WAVE")),
    Signature(b"fLaC", AUDIO),
    Signature(b"#!AMR", AUDIO),
    Signature(b"%PDF-", Found(None, "a PDF document", DOCUMENT)),
    Signature(b"\xd0\xcf\x11\xe0", Found(None, "an Office document", DOCUMENT)),
    Signature(b"PK\x03\x04", Found(None, "an archive or an Office document", DOCUMENT)),
    Signature(b"8BPS", Found(None, "a Photoshop file")),
    Signature(b"\xff\x0a", Found(None, "a JPEG XL image")),
    Signature(b"\0\0\0\x0cJXL ", Found(None, "a JPEG XL image")),
    Signature(b"\xff\x4f\xff\x51", Found(None, "a JPEG 2000 image")),
    Signature(b"\0\0\0\x0cjP  ", Found(None, "a JPEG 2000 image")),
    Signature(b"\0\0\x01\0", Found(None, "an icon")),
)
