"""The worker: serves the waiting line with one model, in one thread.

Who can be answered along with others joins a batch, in which everybody gets a token at each step;
who cannot is answered alone, and the batch takes a step after each of its tokens, so that neither
keeps the other waiting. One thread does both, because generations in two would contend for the
same device. Nothing that happens to a request ends the thread. It knows no torch: a model is
anything that answers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from backend.conversation import End, Request
from backend.errors import EngineError, EngineFailed, OutOfMemory
from backend.local.faults import explain_answering, is_out_of_memory, record
from backend.local.memory.ahead import Ahead, Encoding, Interest
from backend.local.preparation import Cut, Prepared
from backend.local.stopping import Stopped
from backend.local.waiting import Manner, Ticket, WaitingLine
from backend.stream import AnswerStream

# Tokens that take about as long to read again as an answer loses in the slower manner.
MUCH = 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer of a batch that is over, and how."""

    stream: AnswerStream
    outcome: End | EngineError


class Together(Protocol):
    """Requests that are answered at the same time; used by one thread alone."""

    places: int  # requests at once

    def __len__(self) -> int:
        """How many are being answered."""
        ...

    def judge(self, prepared: Prepared, request: Request) -> Manner:
        """Whether a request may come in now, later, or has to be answered alone."""
        ...

    def kept_of(self, prepared: Prepared) -> int:
        """Tokens of a prompt that need no reading when it comes in. Raises nothing."""
        ...

    def join(self, prepared: Prepared, stream: AnswerStream) -> None:
        """Begin `stream` and let a request in; raises what went wrong, `Stopped` when closed."""
        ...

    def step(self) -> Sequence[Ended]:
        """Take everybody one step further; tells who is through. Raises nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Batching:
    """What answers several requests at once, or `None` and why there is no such thing."""

    batch: Together | None = None
    reason: str = ""
    always: bool = False  # else who is alone may be answered alone, quicker in `benchmarks people`

    @property
    def at_once(self) -> int:
        """Requests that are answered at the same time."""
        # Not `if self.batch`: one in which nobody is yet has the length 0.
        return 1 if self.batch is None else self.batch.places

    def __str__(self) -> str:
        """As a status says it."""
        if self.batch is not None:
            return f"up to {self.batch.places} at once"
        return f"one at a time: {self.reason}" if self.reason else "one at a time"


class Model(Protocol):
    """Weights on a device, ready to answer; used by one thread alone."""

    device: str
    precision: str
    attention: str
    batching: Batching

    def answer(
        self,
        prepared: Prepared,
        stream: AnswerStream,
        between: Callable[[], None] = lambda: None,
    ) -> End:
        """Begin `stream` and write the answer into it; raises `Stopped` soon after it is closed.

        Calls `between` after each token.
        """
        ...

    def kept_of(self, prepared: Prepared) -> int:
        """Tokens of a prompt that need no reading when it is answered alone. Raises nothing."""
        ...

    def look_ahead(self, cut: Cut, interest: Interest) -> Iterator[None]:
        """Encode tiles that will be asked about, one batch a step, while there is interest."""
        ...

    def recover(self, short: bool) -> None:
        """Free what a failed request left behind, and what is kept if memory was `short`.

        Raises if the device works no more.
        """
        ...


class Worker:
    """Takes tickets from the line and answers them."""

    def __init__(self, line: WaitingLine, model: Model, ahead: Ahead) -> None:
        self._line = line
        self._model = model
        self._encoding = Encoding(ahead, model.look_ahead)
        self._batch = model.batching.batch
        self._joined: dict[AnswerStream, Ticket] = {}
        self._broken: EngineError | None = None
        line.serve(model.batching.at_once)

    def run(self) -> EngineError | None:
        """Serve until the line is shut (`None`) or nobody can be served any more (the reason)."""
        try:
            self._run()
        except Exception:  # outside any answer: else every stream would wait for ever
            number = record("the worker failed")
            self._broken = EngineFailed(f"The engine stopped (error {number}).", "Restart the app.")
        return self._broken

    def _run(self) -> None:
        while not self._line.is_shut and self._broken is None:
            ticket = self._line.take(self._judge, not self._joined, self._may_look_ahead)
            if ticket is not None:
                self._serve(ticket)
            elif not self._joined:
                self._look_ahead()
            self._step()

    def _may_look_ahead(self) -> bool:
        return not self._encoding.idle

    def _look_ahead(self) -> None:
        """One batch of tiles, while nobody is answered."""
        try:
            self._encoding.step()
        except Stopped:
            return
        except Exception as error:  # a hint costs nobody anything; whoever asks is told
            record("a file could not be encoded ahead")
            self._recover(is_out_of_memory(error))

    def _judge(self, ticket: Ticket) -> Manner:
        if self._batch is None or ticket.prepared is None:
            return Manner.ALONE
        manner = self._batch.judge(ticket.prepared, ticket.stream.request)
        if manner is not Manner.TOGETHER or self._model.batching.always:
            return manner
        better = self._is_better_alone(self._batch, ticket, ticket.prepared)
        return Manner.ALONE if better else Manner.TOGETHER

    def _is_better_alone(self, batch: Together, ticket: Ticket, prepared: Prepared) -> bool:
        """Whoever has no company is; but nobody is where much would have to be read again."""
        if self._line.serves_alone:
            return False
        more = self._model.kept_of(prepared) - batch.kept_of(prepared)
        return more > 0 if abs(more) >= MUCH else not self._line.has_company(ticket)

    def _serve(self, ticket: Ticket) -> None:
        prepared, ticket.prepared = ticket.prepared, None
        assert prepared is not None, "the line gave out a request that is not prepared"
        outcome = self._attempt(ticket, prepared)
        # Here the exception and the tensors in its frames are gone, so memory can be freed.
        if outcome is not None:
            self._finish(ticket, outcome)
            self._recover_from(outcome)

    def _attempt(self, ticket: Ticket, prepared: Prepared) -> End | EngineError | None:
        """How an answer ended; `None` while it goes on in the batch."""
        stream = ticket.stream
        try:
            if ticket.alone or self._batch is None:
                return self._model.answer(prepared, stream, self._let_others_go_on)
            self._batch.join(prepared, stream)
        except Stopped:
            return End.STOPPED
        except Exception as error:  # one bad request must not end the thread
            return explain_answering(error, prepared, len(stream.token_ids))
        self._joined[stream] = ticket
        return None

    def _let_others_go_on(self) -> None:
        """A step for the batch, and for who may come in, while somebody is answered alone."""
        if self._batch is None:
            return
        ticket = self._line.take(self._judge, wait=False)
        if ticket is not None:
            self._serve(ticket)
        self._step()
        if self._broken is not None:
            raise self._broken

    def _step(self) -> None:
        if self._batch is None or not self._joined:
            return
        ended = self._batch.step()
        for one in ended:
            self._finish(self._joined.pop(one.stream), one.outcome)
        self._recover_from(*(one.outcome for one in ended))

    def _finish(self, ticket: Ticket, outcome: End | EngineError) -> None:
        if isinstance(outcome, End):
            ticket.stream.finish(outcome)
        else:
            ticket.stream.finish(error=outcome)
        self._line.done(ticket)

    def _recover_from(self, *outcomes: End | EngineError) -> None:
        """Once after all that ended together: one broken step ends everybody in it."""
        if any(isinstance(one, EngineError) for one in outcomes):
            self._recover(any(isinstance(one, OutOfMemory) for one in outcomes))

    def _recover(self, short: bool) -> None:
        try:
            self._model.recover(short)
        except Exception:  # a device that failed for good, as after a CUDA assertion
            number = record("the device works no more")
            self._broken = EngineFailed(
                f"The device stopped working (error {number}).", "Restart the app."
            )
