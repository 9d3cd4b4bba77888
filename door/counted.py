"""An engine whose answers are counted, be they asked on the page or by a program."""

import threading
from collections.abc import Callable, Iterator

from backend.conversation import Attachment, Request, Statistics
from backend.engine import Engine, Progress, Status, Stream
from backend.errors import EngineError
from door.counts import Counts


class CountedEngine:
    """Satisfies `backend.engine.Engine`: `engine`, asked by `source`."""

    def __init__(self, engine: Engine, counts: Counts, source: str) -> None:
        self._engine = engine
        self._counts = counts
        self._source = source

    def stream(self, request: Request) -> Stream:
        """Begin to answer; what could not begin is not counted."""
        stream = self._engine.stream(request)
        self._counts.begin()
        return CountedStream(stream, self._counts, self._source)

    def expect(self, session: str, files: tuple[Attachment, ...]) -> None:
        """Handed on."""
        self._engine.expect(session, files)

    def status(self) -> Status:
        """Handed on."""
        return self._engine.status()

    def close(self) -> None:
        """Handed on."""
        self._engine.close()


class CountedStream:
    """Satisfies `backend.engine.Stream`; counted when its reader sees its end or closes it."""

    def __init__(self, stream: Stream, counts: Counts, source: str) -> None:
        self._stream = stream
        self._counts = counts
        self._source = source
        self._counted = False
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._stream
        except Exception:  # counted, and handed on as it is
            self._count("failed")
            raise
        self._count()

    def take(self, wait_s: float) -> str | None:
        """As the engine's own."""
        try:
            text = self._stream.take(wait_s)
        except Exception:  # counted, and handed on as it is
            self._count("failed")
            raise
        if text is None:
            self._count()
        return text

    def call_on_news(self, callback: Callable[[], None]) -> None:
        """As the engine's own."""
        self._stream.call_on_news(callback)

    def close(self, reason: EngineError | None = None) -> None:
        """As the engine's own."""
        self._stream.close(reason)
        self._count()

    @property
    def progress(self) -> Progress:
        """As the engine's own."""
        return self._stream.progress

    @property
    def token_ids(self) -> tuple[int, ...]:
        """As the engine's own."""
        return self._stream.token_ids

    @property
    def statistics(self) -> Statistics | None:
        """As the engine's own."""
        return self._stream.statistics

    def _count(self, how: str = "") -> None:
        with self._lock:
            if self._counted:
                return
            self._counted = True
        statistics = self._stream.statistics
        ended = statistics.end.value if statistics else "stopped"
        self._counts.end(self._source, how or ended, statistics)
