"""Images: from a file to upright RGB pixels as a person sees them, or a refusal that says why.

Each format is opened by its own reader, chosen by the content; the size is read from the header
and checked before anything is decoded. Knows no tiles and no model.

`Image.open` is not used: it warns about large images by its own, global limit, and would try
formats nobody asked for.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from backend.conversation import Kind
from backend.errors import BadFile
from backend.media.colours import as_seen, mend_transparency, unreadable_colours
from backend.media.limits import MB, Limits
from backend.media.quiet import Quiet
from backend.media.recognise import ADD_AGAIN, AS_IMAGE, examine, status

ORIENTATION = 0x0112  # the Exif tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's readers raise for damaged files; each of these was seen with some file.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_QUIET = Quiet()  # Pillow warns about Exif data and the like, of no use to anybody


Begin = Callable[[ImageFile.ImageFile], None]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a person sees it: RGB and upright, and what they should know about it."""

    image: Image.Image
    notice: str = ""


def open_image(path: str, name: str, limits: Limits, begin: Begin = lambda image: None) -> Picture:
    """Decode the image at `path`, which the person calls `name`.

    `begin` gets the file when its header was read and found in order, before it is decoded.

    Raises `BadFile` for a file that is missing, no image, too large, damaged or cut off, or whose
    colours cannot be told.
    """
    found = examine(path, name)
    if found.kind is not Kind.IMAGE:
        raise BadFile(name, "this is not an image.", AS_IMAGE)
    if status(path, name).st_size > limits.image_bytes:
        raise BadFile(name, f"the file is larger than {limits.image_bytes // MB} MB.", AS_IMAGE)
    try:
        with open(path, "rb") as file, _QUIET:
            return _decode(file, found.format, name, limits, begin)
    except MemoryError:
        raise BadFile(name, "there is no memory for this image.", "Make it smaller.") from None
    except DAMAGED:
        raise BadFile(name, "the image is damaged or cut off.", f"{ADD_AGAIN} {AS_IMAGE}") from None


def _decode(file: BinaryIO, format: str, name: str, limits: Limits, begin: Begin) -> Picture:
    image = READERS[format](file)
    _require_size(image.size, name, limits)
    notice = _notice(image)
    begin(image)
    coding = image.tile[0][3] if image.tile else None  # gone once the image is loaded
    image.load()
    mend_transparency(image, coding)
    # A file may lie about itself and come out larger than its header said.
    _require_size(image.size, name, limits)
    if problem := unreadable_colours(image):
        raise BadFile(name, problem, "Save it as 8-bit PNG or JPEG and add that.")
    turn = UPRIGHT.get(orientation_of(image))
    seen = as_seen(image)
    return Picture(seen if turn is None else seen.transpose(turn), notice)


def orientation_of(image: Image.Image) -> int:
    """How the image must be turned, as Exif tells; 1 for not at all. From 5 on sides change."""
    told = image.getexif().get(ORIENTATION, 1)
    return told if told in UPRIGHT else 1


def _require_size(size: tuple[int, int], name: str, limits: Limits) -> None:
    width, height = size
    if width * height > limits.image_pixels or max(size) > limits.image_side:
        raise BadFile(
            name,
            f"the image has {width:,} × {height:,} = {width * height / 1e6:,.0f} megapixels; "
            f"at most {limits.image_pixels / 1e6:g} are read, and {limits.image_side:,} a side.",
            "Make it smaller and add that.",
        )


def _notice(image: Image.Image) -> str:
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return ""  # the further pictures of an MPO are the same scene: depth, the other eye
    if image.format == "TIFF":
        return "only the first of several pages is used"
    return "animated: only the first picture is used"


def _heif(file: BinaryIO) -> ImageFile.ImageFile:
    from pillow_heif import HeifImageFile

    heif: ImageFile.ImageFile = HeifImageFile(file)  # type: ignore[no-untyped-call]
    return heif


READERS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "HEIF": _heif,
}
