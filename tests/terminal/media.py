"""Pictures and a video made for tests: sizes that upstream cuts into known numbers of tiles."""

from pathlib import Path

import av
import numpy as np
from PIL import Image

# Tiles with the thumbnail → columns and rows of 448 px that give them.
GRIDS = {13: (4, 3), 7: (3, 2), 3: (2, 1), 5: (2, 2)}


def make_picture(folder: Path, tiles: int) -> Path:
    """A grey picture that is cut into `tiles`, thumbnail included."""
    path = folder / f"{tiles}.png"
    columns, rows = GRIDS[tiles]
    Image.new("L", (448 * columns, 448 * rows), 128).save(path)
    return path


def make_video(folder: Path, frames: int = 40, fps: int = 10) -> Path:
    """A video of noise, a frame every 1 / `fps` s."""
    path = folder / "clip.mp4"
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            pixels = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return path
