"""The decoding child: a process that reads one video under limits and may be killed any time.

    python -m backend.media.child < requests > messages

Imports what it needs, then waits: it may have been started ahead. It limits itself before it opens
anything, answers requests of `backend.media.wire` about the one video, and ends at once when the
app closes its stdin. Whatever a decoder prints goes nowhere.
"""

import json
import os
import sys
import threading
from dataclasses import asdict
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, BinaryIO

from backend.media.wire import PATIENCE_S, Ask, Failed, Fault, Tag, write_message

if TYPE_CHECKING:
    from backend.media.decode_av import Index, Video


def main() -> None:
    """Answer the requests on stdin."""
    answer = _take_stdout()
    asks: SimpleQueue[Ask] = SimpleQueue()
    threading.Thread(target=_hear, args=(asks,), daemon=True).start()
    from backend.media import film  # noqa: F401  (so that nothing is imported once a video waits)
    from backend.media.decode_av import open_video

    ask = asks.get()
    limit(ask.memory_bytes, ask.cpu_s)
    try:
        with open_video(ask) as video:
            while True:
                serve(video, ask, answer)
                write_message(answer, Tag.END)
                ask = asks.get(timeout=PATIENCE_S)
    except Failed as failed:
        write_message(answer, Tag.FAULT, failed.fault.encode())
    except MemoryError:
        write_message(answer, Tag.FAULT, Fault.NO_MEMORY.encode())
    except Empty:
        pass
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


def serve(video: "Video", ask: Ask, answer: BinaryIO) -> None:
    """Send the index of the video, or the frames that were asked for."""
    if not ask.targets:
        from backend.media.decode_av import index_video

        _send_index(index_video(video, ask), answer)
        return
    from backend.media.film import cut_film

    for frame in cut_film(video, ask):
        write_message(answer, Tag.TILE, frame.tile)
        write_message(answer, Tag.PREVIEW, frame.preview)


def _send_index(index: "Index", answer: BinaryIO) -> None:
    write_message(answer, Tag.HEAD, json.dumps(asdict(index.head)).encode())
    write_message(answer, Tag.PTS, index.pts.astype("<i8").tobytes())
    write_message(answer, Tag.MARKS, index.marks.astype("u1").tobytes())


def _take_stdout() -> BinaryIO:
    """The pipe to the app; what libraries print to stdout from now on goes where stderr goes."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answer


def _hear(asks: "SimpleQueue[Ask]") -> None:
    for line in sys.stdin.buffer:
        asks.put(Ask.from_line(line))
    os._exit(1)  # the app has gone, or wants no more


if __name__ == "__main__":
    main()
