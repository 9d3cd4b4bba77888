"""The engine: one verb, `stream(request)`, which any engine speaks.

The page and the terminal know engines only through this file. What model answers, on what
machine, in this process or behind a server, is the business of `backend.local` and
`backend.remote`; `tests/fakes.py` has one that follows a script.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from backend.conversation import Attachment, Request, Statistics
from backend.errors import EngineError


class State(StrEnum):
    """Whether an engine can answer."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Inability:
    """Something that an engine cannot do, and why: a field of `Sampling`, "image", "video",
    "combined", or "boxes" where it leaves out their signs."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """What an engine is doing. `share` of the loading is done, 0…1; `reason` tells a failure.

    `doing` says what takes the time while loading, as "downloading 1.2 of 4.2 GB".
    """

    state: State
    model: str  # the name a person knows the checkpoint by
    share: float = 0.0
    reason: str = ""
    device: str = ""  # where it runs, as "cpu" or "2 × NVIDIA H100"
    precision: str = ""  # as "bfloat16" or "nf4 + bfloat16"
    why: str = ""  # that precision, where nobody chose it
    attention: str = ""  # as "sdpa"
    batching: str = ""  # as "up to 8 at once"
    at_once: int = 1  # requests that are answered at the same time
    waiting: int = 0  # requests in the queue, the running ones not counted
    doing: str = ""
    unable: tuple[Inability, ...] = ()


class Stage(StrEnum):
    """Where a request is on its way."""

    PREPARING = "preparing"  # files are opened and cut
    WAITING = "waiting"  # others are served first
    READING = "reading"  # the model reads pictures and text
    WRITING = "writing"  # tokens come
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Progress:
    """A request's stage, and in the queue how many requests come before it."""

    stage: Stage
    ahead: int = 0


class Stream(Protocol):
    """The answer to one request while it is made: read by one thread, closed by any.

    It ends, raises an `EngineError`, or is closed. Closing is no error: the text so far stays
    good, `statistics.end` says `stopped`, and the model is free within one step.
    """

    def __iter__(self) -> Iterator[str]:
        """Pieces of text as they come, until the end; raises what went wrong."""
        ...

    def take(self, wait_s: float) -> str | None:
        """All text since the last call, waiting at most `wait_s` for some.

        Returns "" when none came in time and `None` at the end; raises what went wrong.
        """
        ...

    def call_on_news(self, callback: Callable[[], None]) -> None:
        """Have `callback` run whenever `take` has something to give, and at once if it has now.

        Once for all that comes until it is taken. For who cannot wait in `take`. It runs in any
        thread and must neither wait nor raise.
        """
        ...

    def close(self, reason: EngineError | None = None) -> None:
        """End the request now. May be called twice, after the end, and from any thread.

        With a `reason` the reader is told it as an error, after the text that came before.
        """
        ...

    @property
    def progress(self) -> Progress:
        """Where the request is."""
        ...

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of the new tokens so far; empty where the engine does not tell them."""
        ...

    @property
    def statistics(self) -> Statistics | None:
        """What the answer cost; `None` before the end or if nothing was generated."""
        ...


class Engine(Protocol):
    """Something that answers requests."""

    def stream(self, request: Request) -> Stream:
        """Begin to answer. Returns at once.

        Raises `EngineBusy` when the queue is full and `EngineFailed` when the engine is broken;
        every other error comes through the stream.
        """
        ...

    def expect(self, session: str, files: tuple[Attachment, ...]) -> None:
        """A hint: `session` will probably ask about these files, and not about others.

        Replaces the session's earlier hint, so that a removed file is not worked on any more.
        Returns at once, raises nothing, and may do nothing.
        """
        ...

    def status(self) -> Status:
        """What the engine is doing now. Cheap: the page asks every second."""
        ...

    def close(self) -> None:
        """End all requests and free the device."""
        ...
