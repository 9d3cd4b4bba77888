"""From an engine's events to the reader's stream: text, counts, and whether it has begun.

Knows no network; one object for one request, also when it moves from engine to engine.
"""

from collections.abc import Iterable

from backend.conversation import End
from backend.engine import Progress, Stage
from backend.prompt.budget import Budget
from backend.remote.events import Event, Told, Usage
from backend.sieve import Sieve
from backend.stream import AnswerStream

ENDS = {"length": End.LENGTH, "max_tokens": End.LENGTH}
FAILURES = ("error", "abort")  # what vLLM, SGLang and LMDeploy give as the reason of an end


class Writing:
    """What comes of one request."""

    def __init__(self, stream: AnswerStream, budget: Budget, signs: Iterable[str]) -> None:
        self.stream = stream
        self._budget = budget
        self._sieve = Sieve(stream.request.sampling.stop, signs)
        self._end = End.EOS
        self._usage: Usage | None = None
        self.began = False  # whether the model wrote anything, be it not shown yet
        self.ended = False  # whether the engine told an end

    def send(self) -> None:
        """The question is on its way to an engine."""
        self.stream.begin(self._budget.total, self._budget.visual)

    def wait(self) -> None:
        """The engine has too much to do."""
        self.stream.advance(Progress(Stage.WAITING))

    def take(self, event: Event) -> bool:
        """One event; whether what follows is wanted. Raises `Told` for an answer that failed."""
        if event.reason in FAILURES:
            raise Told(f"it ended with {event.reason!r}")
        if event.text:
            self.began = True
            self.stream.write(self._sieve.sift(event.text), tokens=1)
        if event.reason or event.done:
            self.ended = True
        if event.reason:
            self._end = ENDS.get(event.reason, End.EOS)
        self._usage = event.usage or self._usage
        if self._sieve.ended:
            self.ended, self._end = True, End.EOS
        return not self._sieve.ended

    def finish(self) -> None:
        """The answer is whole."""
        self.stream.write(self._sieve.rest())
        if self._usage is not None:
            cached = self._usage.cached_tokens or 0
            self.stream.correct(self._usage.prompt_tokens, cached, self._usage.new_tokens)
        self.stream.finish(self._end)

    def give_up(self) -> None:
        """What was held back is shown: nothing more comes."""
        self.stream.write(self._sieve.rest())
