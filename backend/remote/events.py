"""What an engine sends while it answers: Server-Sent Events, and the JSON in them.

Pure: bytes in, events out. Read generously, as engines differ (seen in transcripts of llama.cpp
b11434, transformers 5.24, vLLM 0.32 and SGLang 0.5.23): content may be absent, null or empty,
counts come with the last word or after it, some end with `[DONE]` and some just end.
"""

import codecs
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backend.remote.complaints import find_complaint

MOST_CHARS = 4_000_000  # of one event; a longer one is no answer
DONE = "[DONE]"


class Garbled(Exception):
    """What came is not of OpenAI's interface."""


class Told(Exception):
    """The engine says in its own words, `str(error)`, that it failed."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the engine counted."""

    prompt_tokens: int
    new_tokens: int
    cached_tokens: int | None = None  # None where the engine does not tell


@dataclass(frozen=True, slots=True)
class Event:
    """One step of an answer: some text, the reason of the end, the counts, any or none of them."""

    text: str = ""
    reason: str = ""
    usage: Usage | None = None
    done: bool = False


class Reading:
    """Cuts bytes as they come into the data of events (WHATWG HTML, 9.2.6)."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._line: list[str] = []  # pieces of a line that is not whole yet
        self._data: list[str] = []  # lines of an event that is not whole yet
        self._size = 0  # characters of both
        self._after_return = False

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The data of every event that `chunk` completes. Raises `Garbled` for an endless one.

        An event that is never completed is dropped, as the standard wants it.
        """
        first, *others = self._text(chunk).split("\n")
        self._line.append(first)
        self._size += len(first)
        for start in others:
            yield from self._end_line("".join(self._line))
            self._line = [start]
            self._size += len(start)
        if self._size > MOST_CHARS:
            raise Garbled("an event without end")

    def _end_line(self, line: str) -> Iterator[str]:
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        elif not line and self._data:
            yield "\n".join(self._data)
            self._data, self._size = [], 0

    def _text(self, chunk: bytes) -> str:
        """`chunk` decoded, with every kind of line end as a newline."""
        text = self._decoder.decode(chunk)
        if self._after_return and text.startswith("\n"):
            text = text[1:]
            self._after_return = False
        if text:
            self._after_return = text.endswith("\r")
        return text.replace("\r\n", "\n").replace("\r", "\n")


def read_event(data: str) -> Event:
    """An event's data. Raises `Told` for an error in it and `Garbled` for what is no JSON."""
    if data.strip() == DONE:
        return Event(done=True)
    return read_body(read_json(data))


def read_json(text: str) -> Mapping[str, Any]:
    """A JSON object. Raises `Garbled`."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise Garbled("no JSON") from None
    if not isinstance(body, dict):
        raise Garbled("no JSON object")
    return body


def read_body(body: Mapping[str, Any]) -> Event:
    """A chunk of an answer, or a whole one. Raises `Told` for an error and `Garbled`."""
    complaint = find_complaint(body)
    if complaint:
        raise Told(complaint)
    choices = body.get("choices")
    if not isinstance(choices, list):
        raise Garbled("no choices")
    usage = read_usage(body.get("usage"))
    first = choices[0] if choices else {}
    if not isinstance(first, dict):
        raise Garbled("no choice")
    said = first.get("delta") or first.get("message") or {}
    text = said.get("content") if isinstance(said, dict) else None
    reason = first.get("finish_reason")
    return Event(
        text if isinstance(text, str) else "", reason if isinstance(reason, str) else "", usage
    )


def read_usage(usage: object) -> Usage | None:
    """The counts, where they are numbers."""
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(read, int) or not isinstance(written, int):
        return None
    return Usage(read, written, cached if isinstance(cached, int) else None)
