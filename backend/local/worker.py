"""The worker: serves the waiting line with one model, one request after another.

One thread, because two generations at once would contend for the same device and double the
cache of keys and values: both answers late, and twice the chance to run out of memory. Nothing
that happens to a request ends the thread. It knows no torch: a model is anything that answers.
"""

from typing import Protocol

from backend.conversation import End
from backend.errors import EngineError, EngineFailed
from backend.local.faults import explain_answering, record
from backend.local.preparation import Prepared
from backend.local.stopping import Stopped
from backend.local.waiting import Ticket, WaitingLine
from backend.stream import AnswerStream


class Model(Protocol):
    """Weights on a device, ready to answer; used by one thread alone."""

    device: str
    precision: str
    attention: str

    def answer(self, prepared: Prepared, stream: AnswerStream) -> End:
        """Begin `stream` and write the answer into it; raises `Stopped` soon after it is closed."""
        ...

    def recover(self) -> None:
        """Free what a failed request left behind; raises if the device works no more."""
        ...


class Worker:
    """Takes tickets from the line and answers them."""

    def __init__(self, line: WaitingLine, model: Model) -> None:
        self._line = line
        self._model = model

    def run(self) -> EngineError | None:
        """Serve until the line is shut (`None`) or the device works no more (the reason)."""
        while (ticket := self._line.take()) is not None:
            broken = self._serve(ticket)
            self._line.done()
            if broken is not None:
                return broken
        return None

    def _serve(self, ticket: Ticket) -> EngineError | None:
        prepared, ticket.prepared = ticket.prepared, None
        assert prepared is not None, "the line gave out a request that is not prepared"
        outcome = self._attempt(prepared, ticket.stream)
        if isinstance(outcome, End):
            ticket.stream.finish(outcome)
            return None
        # Here the exception and the tensors in its frames are gone, so memory can be freed.
        ticket.stream.finish(error=outcome)
        return self._recover()

    def _attempt(self, prepared: Prepared, stream: AnswerStream) -> End | EngineError:
        try:
            return self._model.answer(prepared, stream)
        except Stopped:
            return End.STOPPED
        except Exception as error:  # one bad request must not end the thread
            return explain_answering(error, prepared, len(stream.token_ids))

    def _recover(self) -> EngineError | None:
        try:
            self._model.recover()
        except Exception:  # a device that failed for good, as after a CUDA assertion
            number = record("the device works no more")
            return EngineFailed(f"The device stopped working (error {number}).", "Restart the app.")
        return None
