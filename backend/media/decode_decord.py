"""decord in the decoding child: the model card's own decoder, for those who want exactly it.

Runs only in the child: decord is known to hang and to abort. Which frames there are is told by
`decode_av`, which agrees with decord; the pixels come from decord.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.media.decode_av import Video
from backend.media.wire import Ask, Failed, Fault


def frames_of(video: Video, ask: Ask) -> Iterator[NDArray[np.uint8]]:
    """The asked frames as RGB [height, width, 3], in the order of the targets.

    Where key frames close what came before, as the card reads them: `vr[index]`. Elsewhere decord
    jumps to another frame than the asked one, so every frame up to it is read. Raises `Failed`,
    `Fault.FOREIGN` for what only PyAV reads rightly: AV1, broadcast streams, tiny frames.
    """
    try:
        from decord import DECORDError, VideoReader, cpu
    except ImportError:
        raise Failed(Fault.NO_DECORD) from None
    if not ask.ordered or video.container.format.name == "mpegts":
        raise Failed(Fault.FOREIGN)
    try:
        reader = VideoReader(ask.path, ctx=cpu(0), num_threads=1)
        read = _jump if ask.closed else _walk
        for pixels in read(reader, [target.index for target in ask.targets]):
            if pixels.shape[-1] != 3:  # decord misreads the rows of some small frames
                raise Failed(Fault.FOREIGN)
            yield pixels
    except (DECORDError, RuntimeError, IndexError, StopIteration):
        raise Failed(Fault.FOREIGN) from None


def _jump(reader: Any, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    for index in indices:
        yield reader[index].asnumpy()


def _walk(reader: Any, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    at = -1
    for index in indices:
        while at < index:
            frame = reader.next()
            at += 1
        yield frame.asnumpy()
