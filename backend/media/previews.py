"""Previews: small JPEGs that show people what the model will see."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 320  # px, the longer side of a preview
MOST_BYTES = 400_000  # a JPEG of SIDE x SIDE px is never as large


def preview_of(image: Image.Image, whole: NDArray[np.uint8] | None = None) -> bytes:
    """A small JPEG of an RGB image, in its own proportions.

    `whole` is a tile that shows all of it, which is quicker to shrink if it is large enough.
    """
    size = _fitted(image.width, image.height)
    jpeg = io.BytesIO()
    if whole is not None and len(whole) >= SIDE:
        small = Image.fromarray(whole).resize(size, Image.Resampling.BICUBIC)
    else:
        small = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    small.save(jpeg, "JPEG", quality=85)
    return jpeg.getvalue()


def _fitted(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
