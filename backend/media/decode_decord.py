"""decord in the decoding child: the model card's own decoder, for those who want exactly it.

Runs only in the child: decord is known to hang and to abort. Which frames there are is told by
`decode_av`, which agrees with decord; the pixels come from decord.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backend.media.decode_av import best_stream, open_video
from backend.media.wire import Ask, Failed, Fault


def cut_frames(ask: Ask) -> Iterator[NDArray[np.uint8]]:
    """The asked frames as RGB [height, width, 3], as the card reads them: `vr[index]`.

    Raises `Failed`, `Fault.FOREIGN` for what PyAV can read and decord cannot, as AV1.
    """
    try:
        from decord import DECORDError, VideoReader, cpu
    except ImportError:
        raise Failed(Fault.NO_DECORD) from None
    with open_video(ask) as container:
        best_stream(container, ask)
    try:
        reader = VideoReader(ask.path, ctx=cpu(0), num_threads=1)
        for target in ask.targets:
            yield reader[min(target.index, len(reader) - 1)].asnumpy()
    except (DECORDError, RuntimeError, IndexError):
        raise Failed(Fault.FOREIGN) from None
