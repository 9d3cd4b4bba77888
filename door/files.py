"""Pictures and videos of a request: from their addresses to attachments.

An address is a `data:` URL, or one of the internet where that is allowed; never a path. What a
file is, is found out from its content; the media type that an address claims is not believed.
"""

import base64
import binascii
from collections.abc import Callable
from pathlib import Path

from backend.conversation import MOST_TILES, Attachment, Kind, check_range
from backend.errors import BadFile
from backend.media.recognise import attach
from door.refusals import about
from door.schema import Picture, Video

# Tiles at most for each `detail`, as LMDeploy 0.16 has them (lmdeploy/vl/model/internvl.py).
TILES_OF_DETAIL = {"low": 6, "medium": 12, "high": 24}
AS_DATA = "Send it as data:image/png;base64,…"
Fetch = Callable[[str, str], bytes]  # address and name of a picture → content
Keep = Callable[[bytes], Path]  # content → where it lies


def attach_picture(
    part: Picture, name: str, keep: Keep, fetch: Fetch | None, most: int = MOST_TILES
) -> Attachment:
    """The picture of a part; `name` is its place in the request, `most` bounds what `detail` means.

    Raises `BadFile` for what is no picture, `Refused` for tiles out of range.
    """
    wish = part.image_url
    field = f"{name}.image_url.max_dynamic_patch"
    with about(field):
        check_range("max_dynamic_patch", wish.max_dynamic_patch, 1, MOST_TILES)
    detail = TILES_OF_DETAIL.get(wish.detail or "auto")
    tiles = wish.max_dynamic_patch or (detail and min(detail, most))
    address = wish.url.strip()
    if address[:8].lower().startswith(("http://", "https://")):
        if fetch is None:
            raise BadFile(name, "addresses of the internet are not fetched here.", AS_DATA)
        content = fetch(address, name)
    else:
        content = decode(address, name)
    return _attach(keep(content), name, Kind.IMAGE, max_tiles=tiles)


def attach_video(part: Video, name: str, keep: Keep, frames: int | None) -> Attachment:
    """The video of a part, of which `frames` are seen. Raises `BadFile` for what is none."""
    content = decode(part.video_url.url.strip(), name)
    return _attach(keep(content), name, Kind.VIDEO, frames=frames)


def decode(address: str, name: str) -> bytes:
    """The content of a `data:` URL in base64 (RFC 2397). Raises `BadFile`."""
    head, comma, payload = address.partition(",")
    if not comma or not head[:5].lower() == "data:":
        raise BadFile(name, "this is no data: URL.", AS_DATA)
    if not head.lower().endswith(";base64"):
        raise BadFile(name, "this data: URL is not in base64.", AS_DATA)
    if "," in payload:
        raise BadFile(name, "this is a series of pictures.", "Send each as an image_url.")
    if any(sign in payload for sign in " \t\r\n"):
        payload = "".join(payload.split())
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise BadFile(name, "this data: URL is not proper base64.", AS_DATA) from None


def _attach(path: Path, name: str, kind: Kind, **choices: int | None) -> Attachment:
    file = attach(str(path), name, **choices)
    if file.kind is not kind:
        other = "video_url" if file.kind is Kind.VIDEO else "image_url"
        raise BadFile(name, f"this is {_article(file.kind)}.", f"Send it as a part {other}.")
    return file


def _article(kind: Kind) -> str:
    return "an image" if kind is Kind.IMAGE else "a video"
