"""Frames in the decoding child: the chosen ones as tiles for the model and previews for people.

While one frame is brought to its size, the next ones are decoded. Runs only in the child.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.media import decode_av
from backend.media.decode_av import FEW_PIXELS, Video, upright
from backend.media.previews import preview_of
from backend.media.tiles import cut_tiles
from backend.media.wire import Ask

AHEAD = 2  # frames that are decoded while one is resized; large ones wait for each other

Pixels = NDArray[np.uint8]  # RGB [height, width, 3]
Picture = Callable[[], Pixels]  # makes the pixels; in the thread that resizes


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it goes to the app."""

    tile: bytes  # uint8 [tile, tile, 3]
    preview: bytes  # JPEG


def cut_film(video: Video, ask: Ask) -> Iterator[Frame]:
    """The asked frames, in the order of the targets. Raises `wire.Failed`."""
    few = video.stream.codec_context.width * video.stream.codec_context.height <= FEW_PIXELS
    make = partial(_make, ask.tile)
    return _beside(make, pictures(video, ask)) if few else map(make, pictures(video, ask))


def pictures(video: Video, ask: Ask) -> Iterator[Picture]:
    """The asked frames, decoded, with their conversion to RGB still to be done."""
    if ask.decoder == "decord":
        from backend.media.decode_decord import frames_of

        for pixels in frames_of(video, ask):
            yield partial(np.asarray, pixels)
        return
    for frame in decode_av.frames_of(video, ask):
        yield partial(upright, frame, ask.most_pixels)


def _make(side: int, picture: Picture) -> Frame:
    image = Image.fromarray(picture())
    tile = cut_tiles(image, max_tiles=1, tile=side, thumbnail=False)[0]
    return Frame(tile.tobytes(), preview_of(image, tile))


def _beside(make: Callable[[Picture], Frame], decoded: Iterable[Picture]) -> Iterator[Frame]:
    """What `make` gives for each, in order, made in another thread than decodes."""
    made: deque[Future[Frame]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for picture in decoded:
            made.append(pool.submit(make, picture))
            if len(made) > AHEAD:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
