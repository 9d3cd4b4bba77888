"""The stream between an engine and its reader: text, end and errors in one place.

    engine's thread                         reader's thread                any thread
    begin(…)  write(text, ids)  finish()    for text in stream / take()    close()

Thread-safe: one engine writes, one reader reads, anybody closes. A closed stream lets its reader
go at once; the engine notices through `closed` (or the callback it left) and stops at its next
step. A reader who waits is woken for the first text at once and then for what came within
`PACE_S`, since each waking takes the interpreter from who writes. It knows nothing of models: the
engine says what was read and written, the stream keeps time.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from backend.conversation import End, Request, Statistics
from backend.engine import Progress, Stage
from backend.errors import EngineError

# One reader who is woken for each token takes 6 % of the tokens/s (2 cores, 3 ms a token); this
# is shorter than the 40 ms after which the page shows what is new.
PACE_S = 0.02


class AnswerStream:
    """An answer in the making; satisfies `backend.engine.Stream`."""

    def __init__(self, request: Request, clock: Callable[[], float] = time.monotonic) -> None:
        self.request = request
        self._clock = clock
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._given_at = float("-inf")  # when the reader last got text, by the true clock
        self._pieces: list[str] = []
        self._ids: list[int] = []
        self._new_tokens = 0
        self._progress = Progress(Stage.PREPARING)
        self._error: Exception | None = None
        self._closed = False
        self._end: End | None = None
        self._prompt_tokens = 0
        self._visual_tokens = 0
        self._cached_tokens = 0
        self._asked_at = clock()
        self._first_at = 0.0
        self._last_at = 0.0
        self._on_close: list[Callable[[], None]] = []
        self._on_news: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[str]:
        while (text := self.take(None)) is not None:
            yield text

    def take(self, wait_s: float | None) -> str | None:
        """All text since the last call; "" if none came within `wait_s`, `None` at the end."""
        rested_s = self._rest(wait_s)
        with self._changed:
            self._changed.wait_for(self._has_news, wait_s and wait_s - rested_s)
            if self._pieces:
                text = "".join(self._pieces)
                self._pieces.clear()
                self._given_at = time.monotonic()
                return text
            if self._error is not None:
                raise self._error
            return None if self._ended else ""

    def _rest(self, wait_s: float | None) -> float:
        """Let text gather after the last one; returns the seconds that it took of `wait_s`."""
        left_s = self._given_at + PACE_S - time.monotonic()
        if wait_s == 0 or left_s <= 0:
            return 0
        rest_s = left_s if wait_s is None else min(left_s, wait_s)
        self._over.wait(rest_s)
        return rest_s

    def close(self, reason: EngineError | None = None) -> None:
        """End the request now: the reader is let go here, the engine at its next step."""
        with self._changed:
            if self._ended:
                return
            self._closed = True
            self._error = reason
            self._end = End.STOPPED if reason is None else End.BROKEN_OFF
            self._progress = Progress(Stage.ENDED)
            callbacks = tuple(self._on_close)
            self._over.set()
            self._tell()
        for callback in callbacks:
            callback()

    @property
    def closed(self) -> bool:
        """Whether the reader gave up; the engine must stop."""
        return self._closed

    @property
    def progress(self) -> Progress:
        """Where the request is."""
        return self._progress

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of the new tokens so far."""
        with self._changed:
            return tuple(self._ids)

    @property
    def statistics(self) -> Statistics | None:
        """What the answer cost; `None` before its end and when the model never began."""
        with self._changed:
            if self._end is None or not self._prompt_tokens:
                return None
            writing_s = self._last_at - self._first_at
            return Statistics(
                prompt_tokens=self._prompt_tokens,
                visual_tokens=self._visual_tokens,
                new_tokens=self._new_tokens,
                ttft_s=self._first_at - self._asked_at if self._first_at else 0.0,
                tokens_per_s=(self._new_tokens - 1) / writing_s if writing_s > 0 else 0.0,
                end=self._end,
                cached_tokens=self._cached_tokens,
            )

    def call_on_close(self, callback: Callable[[], None]) -> None:
        """Have `callback` run, in the closing thread, when the reader gives up."""
        with self._changed:
            if not self._closed:
                self._on_close.append(callback)
                return
        callback()

    def call_on_news(self, callback: Callable[[], None]) -> None:
        """Have `callback` run whenever `take` has something to give, instead of waiting there.

        Once for all that comes until it is taken. It runs in the thread that writes or closes,
        which it must not hold up.
        """
        with self._changed:
            self._on_news = callback
            if self._has_news():
                callback()

    def advance(self, progress: Progress) -> None:
        """Engine: the request has come this far."""
        with self._changed:
            if not self._ended:
                self._progress = progress

    def begin(self, prompt_tokens: int, visual_tokens: int, cached_tokens: int = 0) -> None:
        """Engine: the model reads this many tokens, visual ones and kept ones among them."""
        with self._changed:
            self._prompt_tokens = prompt_tokens
            self._visual_tokens = visual_tokens
            self._cached_tokens = cached_tokens
        self.advance(Progress(Stage.READING))

    def correct(self, prompt_tokens: int, cached_tokens: int, new_tokens: int) -> None:
        """Engine: the true counts, where they are told at the end and were guessed before."""
        with self._changed:
            if not self._ended:
                self._prompt_tokens = prompt_tokens
                self._cached_tokens = cached_tokens
                self._new_tokens = new_tokens

    def write(self, text: str, ids: Sequence[int] = (), tokens: int = 0) -> None:
        """Engine: new text, new tokens, or both. Dropped once the stream is closed.

        `tokens` counts new ones whose ids are not known.
        """
        with self._changed:
            if self._ended:
                return
            if ids or tokens:
                self._last_at = self._clock()
                self._first_at = self._first_at or self._last_at
                self._progress = Progress(Stage.WRITING)
                self._ids.extend(ids)
                self._new_tokens += len(ids) + tokens
            if text:
                self._pieces.append(text)
                if len(self._pieces) == 1:  # else they know
                    self._tell()

    def finish(self, end: End = End.EOS, error: Exception | None = None) -> None:
        """Engine: nothing more will come, because of `end` or of `error`."""
        with self._changed:
            if self._ended:
                return
            self._end = end if error is None else End.BROKEN_OFF
            self._error = error
            self._progress = Progress(Stage.ENDED)
            self._over.set()
            self._tell()

    @property
    def _ended(self) -> bool:
        return self._end is not None

    def _tell(self) -> None:
        """Let the reader know that there is something to take."""
        self._changed.notify_all()
        if self._on_news is not None:
            self._on_news()

    def _has_news(self) -> bool:
        return bool(self._pieces) or self._ended
