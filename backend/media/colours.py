"""Colours: pixels of any kind become 8-bit RGB as a person sees them, never blank by accident.

Transparency shows white, 16 bits become 8 by their value and not by their last byte, inks and
wide colour spaces go through the file's own profile. Knows no files.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

BITS_PER_SAMPLE = 258  # the TIFF tag
WHITE = (255, 255, 255)


def unreadable_colours(image: Image.Image) -> str:
    """Why nobody can tell how the pixels of a decoded image look; "" when they can."""
    if image.mode == "I":
        return "it has 32-bit numbers for pixels, whose brightness is not defined."
    if image.mode == "F":
        values = np.asarray(image)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            return "it has numbers outside 0–1 for pixels, whose brightness is not defined."
    return ""


def mend_transparency(image: Image.Image, coding: object) -> None:
    """Bring the transparent colour of a PNG to the 8 bits that Pillow brings its pixels to.

    `coding` is Pillow's name of how pixels stand in the file, as "L;4" and "RGB;16B".
    """
    clear = image.info.get("transparency")
    if coding == "RGB;16B" and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if coding in ("L;2", "L;4") and isinstance(clear, int):
        image.info["transparency"] = clear * (85 if coding == "L;2" else 17)


def as_seen(image: Image.Image) -> Image.Image:
    """A decoded image as RGB."""
    if image.mode.startswith("I;16"):
        return _grey(image, np.asarray(image).astype(np.float64) / _white_of(image))
    if image.mode == "F":
        return _grey(image, np.asarray(image).astype(np.float64))
    if image.has_transparency_data:
        return _in_srgb(_on_white(image), image)
    return _in_srgb(image, image)


def is_plain(image: Image.Image) -> bool:
    """Whether `as_seen` would give an RGB image's pixels as they are in the file."""
    return (
        image.mode == "RGB"
        and not image.has_transparency_data
        and _profile_of(image, "RGB") is None
    )


def _grey(image: Image.Image, brightness: NDArray[np.float64]) -> Image.Image:
    """Brightness 0…1 as RGB; a colour named as transparent becomes white."""
    grey = np.rint(brightness * 255).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[np.asarray(image) == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _white_of(image: Image.Image) -> int:
    """The value of white: 65535, or less where a TIFF says it has 12 bits."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(BITS_PER_SAMPLE, (16,))
    return int((1 << bits[0]) - 1)


def _on_white(image: Image.Image) -> Image.Image:
    seen = image.convert("RGBA")
    white = Image.new("RGBA", seen.size, WHITE)
    white.alpha_composite(seen)
    return white.convert("RGB")


def _in_srgb(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """`pixels` of `image` in sRGB: through the profile the file brings, else as Pillow does."""
    if pixels.mode == "P":
        pixels = pixels.convert("RGB")
    profile = _profile_of(image, pixels.mode)
    if profile is not None:
        try:
            return _through(profile, pixels)
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a profile of another colour space: every viewer ignores it
    if pixels.mode == "LAB":
        return _through(ImageCms.createProfile("LAB"), pixels)
    return pixels if pixels.mode == "RGB" else pixels.convert("RGB")  # which would copy


def _profile_of(image: Image.Image, mode: str) -> Any:
    """The file's own profile, if it says anything about pixels of `mode` beyond what is usual."""
    content = image.info.get("icc_profile")
    if not content or mode not in ("RGB", "CMYK", "LAB"):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
        usual = "srgb" in ImageCms.getProfileDescription(profile).lower() and mode == "RGB"
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None  # damaged: every viewer ignores it
    return None if usual else profile


def _through(profile: Any, pixels: Image.Image) -> Image.Image:
    srgb = ImageCms.createProfile("sRGB")
    seen = ImageCms.profileToProfile(pixels, profile, srgb, outputMode="RGB")
    assert seen is not None
    return seen
