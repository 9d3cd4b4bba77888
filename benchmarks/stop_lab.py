"""The ways to stop: streams closed at random moments while the model is watched."""

import random
import time
from dataclasses import dataclass

import torch

from backend.conversation import Request
from backend.local.engine import LocalEngine
from backend.stream import AnswerStream
from benchmarks.card import CardChat
from benchmarks.material import ask
from benchmarks.measurement import Pair
from benchmarks.watched import Run, Watch

ANSWER = 512  # tokens that an answer has when nobody stops it
SHORT = "How many shapes are there?"
STEPS_BEFORE = 6  # decode steps that must have been seen, to know how long one takes
WRITING_S = 0.3  # a Stop comes at most this long after those steps


@dataclass(frozen=True, slots=True)
class Try:
    """One Stop: seconds until the model was idle, and what it began in that time.

    `layer_s` is the longest time between two layers of the prompt's prefill, where that matters.
    """

    idle_s: float
    step_s: float  # one decode step of the same prompt
    layer_s: float
    steps_after: int
    layers_after: int


@dataclass(frozen=True, slots=True)
class Waited:
    """One Stop in the queue: seconds until the reader was free, and whether it was answered yet."""

    free_s: float
    step_s: float  # one decode step of the answer that it waited for
    begun: bool


class Lab:
    """An engine whose model is watched; the moments of stopping are random and repeatable."""

    def __init__(self, engine: LocalEngine, watch: Watch, long: Request) -> None:
        self.engine = engine
        self.watch = watch
        self.short = ask(SHORT, most=ANSWER)
        self.long = long
        self.random = random.Random(0)

    def start_writing(self) -> Run:
        """A run that has written for a random time."""
        run = self.watch.run_of(self.engine.stream(self.short))
        run.wait_for_steps(STEPS_BEFORE)
        time.sleep(self.random.uniform(0, WRITING_S))
        return run

    def stop_writing(self, tries: int) -> list[Try]:
        """Close streams while the model writes."""
        return [stop(run, run, 0) for run in (self.start_writing() for _ in range(tries))]

    def stop_reading(self, tries: int) -> list[Try]:
        """Close streams before the first token, each right after a run that was left alone."""
        stopped: list[Try] = []
        while len(stopped) < tries:
            whole = self.read_through(self.long)
            run = self.watch.run_of(self.engine.stream(self.long))
            time.sleep(self.random.uniform(0, whole.prefill_s))
            tried = stop(run, whole, whole.longest_layer_s)
            if not run.stream.token_ids:  # else it read quicker than the one before
                stopped.append(tried)
        return stopped

    def read_through(self, request: Request) -> Run:
        """A prompt read to its end, and some tokens written."""
        run = self.watch.run_of(self.engine.stream(request))
        run.wait_for_steps(STEPS_BEFORE)
        run.stream.close()
        run.wait_until_idle()
        return run

    def stop_waiting(self, tries: int) -> list[Waited]:
        """Close streams that wait behind another; the model must never begin them."""
        return [self._stop_waiting() for _ in range(tries)]

    def leave_card(self, tries: int) -> list[Pair]:
        """Seconds until the model is idle, ours and the card's way, once their reader is gone."""
        composer = self.engine.composer
        assert composer is not None, "the engine is ready, so it has a composer"
        card = CardChat(self.watch.network, composer.facts.folder)
        ids = torch.tensor([composer.compose(self.short.conversation).ids])
        pairs = []
        for _ in range(tries):
            run = self.start_writing()
            written = len(run.steps)
            ours = stop(run, run, 0).idle_s
            pairs.append(Pair(ours, self._leave(card, ids, written)))
        return pairs

    def _leave(self, card: CardChat, ids: torch.Tensor, written: int) -> float:
        seen = self.watch.begin(AnswerStream(self.short))
        thread = card.begin(ids, ANSWER)
        seen.wait_for_steps(written)
        left = time.perf_counter()
        thread.join()
        self.watch.end(seen)
        return seen.idle - left

    def _stop_waiting(self) -> Waited:
        busy = self.start_writing()
        waits = self.engine.stream(ask(SHORT, session="two"))
        time.sleep(self.random.uniform(0, WRITING_S))
        closed = time.perf_counter()
        waits.close()
        while waits.take(None) is not None:
            continue
        free_s = time.perf_counter() - closed
        served = stop(busy, busy, 0)
        begun = any(run.stream is waits for run in self.watch.runs)
        return Waited(free_s, served.step_s, begun)


def stop(run: Run, like: Run, layer_s: float) -> Try:
    """Close a run's stream now; `like` tells how long a decode step of its prompt takes."""
    closed = time.perf_counter()
    run.stream.close()
    idle = run.wait_until_idle()
    return Try(
        idle - closed,
        like.step_s,
        layer_s,
        sum(moment > closed for moment in run.steps),
        sum(moment > closed for moment in run.layers),
    )
