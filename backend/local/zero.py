"""The engine of a ZeroGPU Space: a GPU is lent to each answer, in a fork of this process.

    worker thread: ZeroModel.answer ──▶ decorated generator ──▶ pieces ──▶ answer stream
                                             │       ▲
                           a forked process: LocalModel.answer in a thread of its own

`spaces.GPU` (package spaces 0.51) forks when it is called, hands arguments and what is yielded
through pipes, and forgets what changes there. So the weights lie in this process's memory without
a GPU, the fork inherits them and moves them onto its GPU, and a fork that lives on keeps them
there. What was computed for earlier questions is gone in a new fork: nothing is kept.

A fork sees that its reader left only between two things it yields, so it yields several times a
second, be it nothing. Errors would come back as the name of their class alone, so they are yielded
too. Nothing here imports `spaces`: whoever makes the engine hands its decorator in.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backend.conversation import End, Request
from backend.errors import BadSetting, EngineError, EngineFailed
from backend.local.engine import LocalEngine
from backend.local.faults import explain_answering, record
from backend.local.memory.ahead import Interest
from backend.local.preparation import Cut, Prepared
from backend.local.stages import Report, Stages
from backend.local.stopping import Stopped
from backend.local.worker import Batching
from backend.planner.configs import read_shape
from backend.prompt.compose import Composer
from backend.settings import AUTO, ON, Settings
from backend.stream import AnswerStream

if TYPE_CHECKING:  # torch is imported by the worker's thread
    from backend.local.model import LocalModel

LOOK_S = 0.1  # between two chances for a fork to see that nobody reads any more
MOST_SESSIONS = 1000  # whose contexts are remembered
# Cautious guesses, not measured: what a Space asks for is taken from its visitor's quota.
START_S = 15  # a fork, and 16 GB of weights onto the GPU
READ_TOKENS_PER_S = 1000
WRITE_TOKENS_PER_S = 20
MOST_S = 120  # what anybody may ask for at once
TAG = re.compile(r"<[^>]*>")

Decorate = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


@dataclass(frozen=True, slots=True)
class Piece:
    """What a fork yields: some of the answer, or nothing, or how it ended."""

    text: str = ""
    ids: tuple[int, ...] = ()
    end: End | None = None
    error: EngineError | None = None


def seconds_for(prepared: Prepared, request: Request) -> int:
    """Seconds of a GPU to ask for, from the budget: to start, to read, and to write it all."""
    reading = prepared.prompt.budget.total / READ_TOKENS_PER_S
    return min(MOST_S, round(START_S + reading + prepared.room / WRITE_TOKENS_PER_S))


class Lent:
    """The part that runs in the fork, and the weights it inherits."""

    def __init__(self, decorate: Decorate, device: str = "cuda") -> None:
        self.network: Any = None  # on the processor, until a fork moves its copy
        self._device = device
        self._composer: Composer | None = None
        self._model: LocalModel | None = None  # in a fork alone
        # Decorated before the page is served: a Space that lends nothing by then is refused.
        self.answer: Callable[[Prepared, Request], Generator[Piece, None, None]] = decorate(
            duration=seconds_for
        )(self._answer)

    def take(self, network: Any, composer: Composer) -> None:
        """The weights that forks shall inherit."""
        self.network, self._composer = network, composer

    def _answer(self, prepared: Prepared, request: Request) -> Iterator[Piece]:
        """In the fork: the answer piece by piece. Closing this ends the model's work."""
        stream = AnswerStream(request)
        working = threading.Thread(target=self._work, args=(prepared, stream), daemon=True)
        working.start()
        sent = 0
        try:
            while True:
                try:
                    text = stream.take(LOOK_S)
                except EngineError as error:
                    yield Piece(error=error)
                    return
                new = stream.token_ids[sent:]
                sent += len(new)
                told = stream.statistics
                if text is None:
                    yield Piece(ids=new, end=told.end if told else End.STOPPED)
                    return
                yield Piece(text, new)
        finally:
            stream.close()
            working.join()

    def _work(self, prepared: Prepared, stream: AnswerStream) -> None:
        try:
            stream.finish(self._ready().answer(prepared, stream))
        except Stopped:
            stream.close()
        except Exception as error:  # told to the one who asked; the fork goes on
            written = len(stream.token_ids)
            stream.finish(error=explain_answering(error, prepared, written))

    def _ready(self) -> "LocalModel":
        """The model of this fork, moved onto its GPU at the first answer."""
        import torch

        from backend.local.model import LocalModel

        if self._model is None:
            assert self._composer is not None, "asked before the weights were loaded"
            if self._device == "cpu":
                torch.set_num_threads(1)  # a pool of threads does not survive a fork
            facts, tokens = self._composer.facts, self._composer.tokens
            network = self.network.to(self._device)
            self._model = LocalModel(network, facts, tokens, kept_bytes=0)
        return self._model


class ZeroModel:
    """Satisfies `backend.local.worker.Model`, for a GPU that is lent to each answer."""

    device = "ZeroGPU"
    attention = "sdpa"
    batching = Batching(reason="a GPU is lent to each answer")

    def __init__(
        self, lent: Lent, precision: str, context_of: Callable[[Request], Context]
    ) -> None:
        self.precision = precision
        self._lent = lent
        self._context_of = context_of

    def answer(
        self,
        prepared: Prepared,
        stream: AnswerStream,
        between: Callable[[], None] = lambda: None,
    ) -> End:
        """Begin `stream` and write what a fork yields; raises `Stopped` when it is closed."""
        # The Space asks on behalf of the visitor, whom it knows by the context of the request.
        context, budget = self._context_of(stream.request), prepared.prompt.budget
        begun = False
        with closing(self._lent.answer(prepared, stream.request)) as pieces:
            while (piece := context.run(next_piece, pieces)) is not None:
                if stream.closed:
                    context.run(pieces.close)
                    raise Stopped
                if not begun:  # the first sign of life of a fork
                    begun = True
                    stream.begin(budget.total, budget.visual)
                stream.write(piece.text, piece.ids)
                between()
                if piece.error is not None:
                    raise piece.error
                if piece.end is not None:
                    context.run(exhaust, pieces)
                    return piece.end
        raise EngineFailed("The GPU was taken away before the answer ended.", "Ask again.")

    def kept_of(self, prepared: Prepared) -> int:
        """Nothing: a fork takes with it what it computed."""
        return 0

    def look_ahead(self, cut: Cut, interest: Interest) -> Iterator[None]:
        """No GPU is lent for what nobody asked yet."""
        return iter(())

    def recover(self, short: bool) -> None:
        """There is nothing to free: what failed was in a fork."""


class ZeroEngine(LocalEngine):
    """The local engine with lent GPUs. Make it before the page is served."""

    def __init__(self, settings: Settings, decorate: Decorate, device: str = "cuda") -> None:
        self._lent = Lent(decorate, device)
        self._contexts: OrderedDict[str, Context] = OrderedDict()
        super().__init__(settings_for_lent(settings), load=self._load_on_processor)

    def stream(self, request: Request) -> AnswerStream:
        """As the local engine, remembering on whose behalf."""
        self._contexts.pop(request.session, None)  # the latest come last
        self._contexts[request.session] = copy_context()
        while len(self._contexts) > MOST_SESSIONS:
            self._contexts.popitem(last=False)
        return super().stream(request)

    def _load_on_processor(
        self, settings: Settings, composer: Composer, report: Report
    ) -> ZeroModel:
        from backend.local.choices import decide
        from backend.local.devices import find_machine
        from backend.local.load import load_adapted
        from backend.local.loaded import precision_of

        shape = read_shape(composer.facts.folder, composer.facts.name)
        placement = decide(settings, shape, find_machine()).placement
        network = load_adapted(settings, composer, shape, placement, Stages(report))
        self._lent.take(network, composer)
        return ZeroModel(self._lent, precision_of(network), self._context_of)

    def _context_of(self, request: Request) -> Context:
        """A copy, since a context can be entered once at a time."""
        found = self._contexts.get(request.session)
        return found.copy() if found else copy_context()


def settings_for_lent(settings: Settings) -> Settings:
    """How the weights are to lie on the processor. Raises `BadSetting` for what cannot be."""
    if settings.quantize is not None:
        raise BadSetting("A lent GPU takes no quantised weights.", "Leave --quantize out.")
    if settings.batching == ON:
        raise BadSetting("A lent GPU answers one question at a time.", "Leave --batching out.")
    if settings.compile == ON:
        raise BadSetting("Nothing is compiled for a lent GPU.", "Leave --compile out.")
    dtype = "bfloat16" if settings.dtype == AUTO else settings.dtype
    return replace(settings, strategy="cpu", dtype=dtype)


def next_piece(pieces: Generator[Piece, None, None]) -> Piece | None:
    """The next piece, `None` at the end; what the Space itself says becomes a sentence."""
    try:
        return next(pieces, None)
    except EngineError:
        raise
    except Exception as error:  # no GPU was lent, or it was taken away: spaces has its own words
        number = record("a GPU was not lent")
        told = TAG.sub("", str(getattr(error, "message", "") or type(error).__name__))
        raise EngineFailed(
            f"The GPU could not be had: {' '.join(told.split())} (error {number}).",
            "Ask again in a while, or sign in for more of it.",
        ) from error


def exhaust(pieces: Generator[Piece, None, None]) -> None:
    """Let a fork reach its end, so that it is used again."""
    for _ in pieces:
        pass
