"""Previews: small JPEGs that show people what the model will see."""

import io

from PIL import Image

SIDE = 320  # px, the longer side of a preview
MOST_BYTES = 400_000  # a JPEG of SIDE x SIDE px is never as large


def preview_of(image: Image.Image) -> bytes:
    """A small JPEG of an RGB image, in its own proportions."""
    small = image.copy() if max(image.size) <= SIDE else _shrink(image)
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue()


def _shrink(image: Image.Image) -> Image.Image:
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
