"""The real engine on the bundled checkpoint, with a clock beside its model.

The weights, the worker and the hooks are the product's own; added are a hook behind each of the
product's that notes the time, and an answer that never ends by itself, so that there is always
something to stop.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median

from transformers import InternVLForConditionalGeneration

from backend.conversation import End
from backend.engine import State
from backend.local.engine import LocalEngine
from backend.local.load import load_checkpoint
from backend.local.memory.ahead import Interest
from backend.local.model import LocalModel
from backend.local.preparation import Cut, Prepared
from backend.local.worker import Batching
from backend.prompt.compose import Composer
from backend.settings import Settings
from backend.stream import AnswerStream

PATIENCE_S = 120.0  # then something is broken and the run ends with an error


@dataclass(eq=False)
class Run:
    """One answer as the model saw it. All times are of `time.perf_counter`, in seconds."""

    stream: AnswerStream
    begun: float = 0.0
    layers: list[float] = field(default_factory=list)  # when each layer was entered
    steps: list[float] = field(default_factory=list)  # when each pass through the decoder began
    idle: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def step_s(self) -> float:
        """How long one decode step took, at the median; the first pass is the prefill."""
        return median(_gaps(self.steps[1:]))

    @property
    def prefill_s(self) -> float:
        """From the beginning to the first token."""
        return self.steps[1] - self.begun

    @property
    def longest_layer_s(self) -> float:
        """The longest time between two layers before the first token."""
        return max(_gaps([moment for moment in self.layers if moment < self.steps[1]]))

    def wait_for_steps(self, count: int) -> None:
        """Wait until so many passes through the decoder have begun."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.steps) < count:
            if self.over.is_set() or time.monotonic() > deadline:
                raise TimeoutError(f"the answer had {len(self.steps)} steps, not {count}")
            time.sleep(0.001)

    def wait_until_idle(self) -> float:
        """When the model was done with it."""
        if not self.over.wait(PATIENCE_S):
            raise TimeoutError("the model did not become idle")
        return self.idle


class Watch:
    """All runs of one model, in order. The model's thread writes, others read."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._network: InternVLForConditionalGeneration | None = None
        self.runs: list[Run] = []

    @property
    def network(self) -> InternVLForConditionalGeneration:
        """The network that is watched."""
        assert self._network is not None, "the engine is ready, so it has a network"
        return self._network

    def begin(self, stream: AnswerStream) -> Run:
        """The model starts to answer."""
        run = Run(stream, begun=time.perf_counter())
        with self._changed:
            self.runs.append(run)
            self._changed.notify_all()
        return run

    def end(self, run: Run) -> None:
        """The model is done, however it ended."""
        run.idle = time.perf_counter()
        run.over.set()

    def wait(self, ready: Callable[[list[Run]], bool]) -> None:
        """Wait until the runs are as asked; looked at when one begins."""
        with self._changed:
            if not self._changed.wait_for(lambda: ready(self.runs), PATIENCE_S):
                raise TimeoutError("the model did not begin")

    def run_of(self, stream: AnswerStream) -> Run:
        """The run of a stream, waited for."""
        self.wait(lambda runs: any(run.stream is stream for run in runs))
        return next(run for run in self.runs if run.stream is stream)

    def run_from(self, session: str) -> Run:
        """The run that a session asked for, waited for."""
        self.wait(lambda runs: any(run.stream.request.session == session for run in runs))
        return next(run for run in self.runs if run.stream.request.session == session)

    def watch(self, network: InternVLForConditionalGeneration) -> None:
        """Note when layers are entered. Hooks run in order, so the product's come before."""
        self._network = network
        layers = network.model.language_model.layers
        layers[0].register_forward_pre_hook(self._note_step)
        for layer in (*network.model.vision_tower.encoder.layer, *layers):
            layer.register_forward_pre_hook(self._note_layer)

    def _note_layer(self, *_: object) -> None:
        self.runs[-1].layers.append(time.perf_counter())

    def _note_step(self, *_: object) -> None:
        self.runs[-1].steps.append(time.perf_counter())


class WatchedModel:
    """A model that tells the watch when it works; satisfies `backend.local.worker.Model`."""

    def __init__(self, model: LocalModel, watch: Watch) -> None:
        self.device = model.device
        self.precision = model.precision
        self.attention = model.attention
        self.batching = Batching()
        self._model = model
        self._watch = watch

    def answer(
        self,
        prepared: Prepared,
        stream: AnswerStream,
        between: Callable[[], None] = lambda: None,
    ) -> End:
        """As the product's."""
        run = self._watch.begin(stream)
        try:
            return self._model.answer(prepared, stream, between)
        finally:
            self._watch.end(run)

    def kept_of(self, prepared: Prepared) -> int:
        """As the product's."""
        return self._model.kept_of(prepared)

    def look_ahead(self, cut: Cut, interest: Interest) -> Iterator[None]:
        """As the product's."""
        return self._model.look_ahead(cut, interest)

    def recover(self, short: bool) -> None:
        """As the product's."""
        self._model.recover(short)


def load(
    settings: Settings, composer: Composer, report: Callable[[float], None], watch: Watch
) -> WatchedModel:
    """As the product loads it, but no token ends an answer."""
    endless = replace(composer.facts, eos_token_ids=())
    model = load_checkpoint(settings, Composer(endless, composer.tokens, composer.media), report)
    watch.watch(model._network)  # the only look behind the product's face
    return WatchedModel(model, watch)


def start_watched() -> tuple[LocalEngine, Watch]:
    """The engine, ready, and the watch on its model."""
    watch = Watch()
    engine = LocalEngine(Settings(cache_gb=0), load=partial(load, watch=watch))
    engine.start()
    deadline = time.monotonic() + PATIENCE_S
    while engine.status().state is State.LOADING and time.monotonic() < deadline:
        time.sleep(0.05)
    if engine.status().state is not State.READY:
        raise RuntimeError(f"the engine is not ready: {engine.status().reason}")
    return engine, watch


def _gaps(moments: list[float]) -> list[float]:
    return [after - before for before, after in zip(moments, moments[1:], strict=False)]
