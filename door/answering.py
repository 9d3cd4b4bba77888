"""Answers of an engine as completions of OpenAI's API: whole, or chunk by chunk.

Streams are read without a thread for each: they tell when they have news. A piece is taken only
after the one before was sent, so that a slow reader holds up nobody and nothing but the text piles
up. Knows the forms, not the HTTP.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from backend.conversation import End, Statistics
from backend.engine import Stream
from backend.errors import EngineFailed

SILENCE_S = 10.0  # after which a sign of life is sent
REASONS = {End.EOS: "stop", End.LENGTH: "length"}


@dataclass(frozen=True, slots=True)
class News:
    """Text of one of the answers, "" after a silence, and `None` at its end."""

    index: int
    text: str | None


@dataclass(frozen=True, slots=True)
class Completion:
    """The answers to one request, and what all that is said about them begins with."""

    model: str
    streams: tuple[Stream, ...]
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def close(self) -> None:
        """End what has not ended."""
        for stream in self.streams:
            stream.close()

    def whole(self, texts: Sequence[str]) -> dict[str, Any]:
        """The object of a request that is not streamed, once all answers ended."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": reason_of(self.streams[index], text),
            }
            for index, text in enumerate(texts)
        ]
        return {**self._head("chat.completion"), "choices": choices, "usage": self.usage}

    def opening(self) -> Iterator[str]:
        """The first chunk of each answer: who speaks."""
        for index in range(len(self.streams)):
            yield self._chunk(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, text: str) -> str:
        """A chunk with text."""
        return self._chunk(index, {"content": text})

    def closing(self, index: int, text: str) -> str:
        """The last chunk of an answer of which `text` was all. Raises `EngineFailed`."""
        return self._chunk(index, {}, reason_of(self.streams[index], text))

    def cost(self) -> str:
        """The chunk that tells the usage."""
        head = self._head("chat.completion.chunk")
        return to_event({**head, "choices": [], "usage": self.usage})

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens: the prompt counted once, the answers together."""
        known = [found for found in (stream.statistics for stream in self.streams) if found]
        first = known[0] if known else None
        read = first.prompt_tokens if first else 0
        written = sum(statistics.new_tokens for statistics in known)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
            "prompt_tokens_details": _details(first),
        }

    def _chunk(self, index: int, delta: dict[str, str], reason: str | None = None) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return to_event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def to_event(told: dict[str, Any]) -> str:
    """An object as a server-sent event."""
    return f"data: {json.dumps(told, ensure_ascii=False, separators=(',', ':'))}\n\n"


def reason_of(stream: Stream, text: str) -> str:
    """Why an answer ended. Raises `EngineFailed` when the engine gave it up."""
    statistics = stream.statistics
    end = statistics.end if statistics else None
    if end is End.STOPPED or (end is None and not text):
        raise EngineFailed("The engine ended this answer.", "Ask again.")
    return REASONS[end] if end else "stop"


async def listen(streams: Sequence[Stream]) -> AsyncGenerator[News, None]:
    """What is new of any stream, until all ended; raises what went wrong with one.

    Only when its news was taken, a stream is asked for more.
    """
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(changed.set)

    for stream in streams:
        stream.call_on_news(wake)
    going = dict(enumerate(streams))
    while going:
        changed.clear()
        for index, stream in tuple(going.items()):
            text = stream.take(0)
            if text is None:
                del going[index]
            if text != "":
                changed.set()  # there may be more, once the others were asked too
                yield News(index, text)
        if going and not await _set_in_time(changed):
            yield News(next(iter(going)), "")


async def _set_in_time(changed: asyncio.Event) -> bool:
    """Whether there is news before the silence is too long."""
    try:
        async with asyncio.timeout(SILENCE_S):
            return await changed.wait()
    except TimeoutError:
        return False


async def gather(completion: Completion) -> dict[str, Any]:
    """The whole object, when all answers ended."""
    texts = [""] * len(completion.streams)
    async for news in listen(completion.streams):
        texts[news.index] += news.text or ""
    return completion.whole(texts)


def _details(statistics: Statistics | None) -> dict[str, int]:
    if statistics is None:
        return {"cached_tokens": 0}
    return {
        "cached_tokens": statistics.cached_tokens,
        "image_tokens": statistics.visual_tokens,
    }
