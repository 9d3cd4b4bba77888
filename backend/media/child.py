"""The decoding child: a process that reads one video under limits and may be killed any time.

    python -m backend.media.child < request > messages

Limits itself before it opens anything, answers one request of `backend.media.wire`, and ends; it
ends at once when the app closes its stdin. Whatever a decoder prints goes nowhere.
"""

import json
import os
import sys
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, BinaryIO

from backend.media.wire import Ask, Failed, Fault, Tag, write_message

if TYPE_CHECKING:
    from backend.media.decode_av import Index


def main() -> None:
    """Answer the request on stdin."""
    answer = _take_stdout()
    ask = Ask.from_line(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_app, daemon=True).start()
    limit(ask.memory_bytes, ask.cpu_s)
    try:
        serve(ask, answer)
    except Failed as failed:
        write_message(answer, Tag.FAULT, failed.fault.encode())
    except MemoryError:
        write_message(answer, Tag.FAULT, Fault.NO_MEMORY.encode())
    else:
        write_message(answer, Tag.END)
    os._exit(0)  # decoders may hang while they are torn down


def limit(memory_bytes: int, cpu_s: int) -> None:
    """Bind this process, where the system can: memory, processor time, and no files written."""
    try:
        import resource
    except ImportError:  # Windows: only the app's wall time holds
        return
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # macOS refuses some, and nobody may raise a lower limit
            continue


def serve(ask: Ask, answer: BinaryIO) -> None:
    """Send the index of the video, or the frames that were asked for."""
    if not ask.targets:
        from backend.media.decode_av import index_video

        _send_index(index_video(ask), answer)
        return
    from PIL import Image

    from backend.media.previews import preview_of
    from backend.media.tiles import cut_tiles

    if ask.decoder == "decord":
        from backend.media.decode_decord import cut_frames
    else:
        from backend.media.decode_av import cut_frames
    for pixels in cut_frames(ask):
        image = Image.fromarray(pixels)
        tile = cut_tiles(image, max_tiles=1, tile=ask.tile, thumbnail=False)
        write_message(answer, Tag.TILE, tile.tobytes())
        write_message(answer, Tag.PREVIEW, preview_of(image))


def _send_index(index: "Index", answer: BinaryIO) -> None:
    write_message(answer, Tag.HEAD, json.dumps(asdict(index.head)).encode())
    write_message(answer, Tag.PTS, index.pts.astype("<i8").tobytes())
    write_message(answer, Tag.MARKS, index.marks.astype("u1").tobytes())


def _take_stdout() -> BinaryIO:
    """The pipe to the app; what libraries print to stdout from now on goes where stderr goes."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answer


def _end_with_the_app() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
