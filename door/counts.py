"""Counts of answers, written in the text format of Prometheus (exposition format 0.0.4).

By hand, since six figures of one process need neither a registry nor a dependency; a test reads
them with Prometheus' own parser. It knows what an answer cost, not who asked.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from backend.conversation import Statistics
from backend.engine import State, Status

TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Waits:
    """How long people waited for the first token: a histogram."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """One more answer began."""
        self.buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class Counts:
    """All figures since the start. Thread-safe. `source` is where a question came from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._waits: dict[str, Waits] = {}
        self._responses: Counter[int] = Counter()
        self._open = 0

    def begin(self) -> None:
        """A request was given to the engine."""
        with self._lock:
            self._open += 1

    def end(self, source: str, how: str, statistics: Statistics | None) -> None:
        """It ended, `how`: eos, length, stopped or failed."""
        with self._lock:
            self._open -= 1
            self._requests[source, how] += 1
            if statistics is None:
                return
            self._tokens[source, "prompt"] += statistics.prompt_tokens
            self._tokens[source, "cached"] += statistics.cached_tokens
            self._tokens[source, "new"] += statistics.new_tokens
            if statistics.new_tokens:
                self._waits.setdefault(source, Waits()).add(statistics.ttft_s)

    def respond(self, status: int) -> None:
        """A program got an answer over HTTP."""
        with self._lock:
            self._responses[status] += 1

    def write(self, now: Status) -> str:
        """Everything as text; `now` is what the engine is doing."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines(now))

    def _lines(self, now: Status) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Answers that ended, by how.")
        for (source, how), count in sorted(self._requests.items()):
            yield f'chat_requests_total{{source="{source}",end="{how}"}} {count}'
        yield from _head("tokens_total", "counter", "Tokens read, read before and kept, written.")
        for (source, what), count in sorted(self._tokens.items()):
            yield f'chat_tokens_total{{source="{source}",what="{what}"}} {count}'
        yield from self._histogram()
        yield from _head("responses_total", "counter", "HTTP answers to programs, by status.")
        for status, count in sorted(self._responses.items()):
            yield f'chat_responses_total{{status="{status}"}} {count}'
        for name, value, explanation in (
            ("requests_open", self._open, "Requests not ended yet, the waiting ones included."),
            ("requests_waiting", now.waiting, "Requests in the queue."),
            ("model_ready", int(now.state is State.READY), "1 once the model answers."),
            ("model_load_share", now.share, "How much of the loading is done."),
        ):
            yield from _head(name, "gauge", explanation)
            yield f"chat_{name} {value:g}"

    def _histogram(self) -> Iterator[str]:
        name = "first_token_seconds"
        yield from _head(name, "histogram", "From the question to the first token.")
        for source, waits in sorted(self._waits.items()):
            total = 0
            for bound, count in zip((*BOUNDS_S, "+Inf"), waits.buckets, strict=True):
                total += count
                yield f'chat_{name}_bucket{{source="{source}",le="{bound}"}} {total}'
            yield f'chat_{name}_sum{{source="{source}"}} {waits.sum_s:.6f}'
            yield f'chat_{name}_count{{source="{source}"}} {total}'


def _head(name: str, kind: str, explanation: str) -> Iterator[str]:
    yield f"# HELP chat_{name} {explanation}"
    yield f"# TYPE chat_{name} {kind}"
