"""What can go wrong, as a small tree; every error says what happened and what to do about it.

    EngineError
    ├── BadInput                 the person can mend it: nothing was asked of the model
    │   ├── BadFile              a picture or video that cannot be used, named
    │   ├── BadSetting           a value outside its range, named
    │   ├── BadQuestion          nothing to answer
    │   └── TooLong              does not fit the context: the numbers and the remedy
    ├── BadCheckpoint            missing, incomplete or foreign weights
    └── EngineFailed             the engine could not answer
        ├── EngineLoading        not ready yet
        ├── EngineBusy           the queue is full
        ├── BrokenOff            it fell silent in mid-answer; the text so far stays good
        │   └── ModelChanged     because somebody chose another model
        └── OutOfMemory          the device has no room for this request

An error knows nothing of pages or terminals: `str(error)` is the whole sentence for a person,
`error.cause` what happened, `error.advice` what to do.
"""


class EngineError(Exception):
    """Anything this project reports to a person: a cause in a clause and advice in another."""

    def __init__(self, cause: str, advice: str) -> None:
        super().__init__(cause, advice)
        self.cause = cause
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.cause} {self.advice}".strip()


class BadInput(EngineError):
    """The question, its files or its settings cannot be used as they are."""


class BadFile(BadInput):
    """A picture or a video cannot be used; `name` is the file as the person knows it."""

    def __init__(self, name: str, cause: str, advice: str) -> None:
        super().__init__(f"{name}: {cause}", advice)
        self.args = (name, cause, advice)
        self.name = name


class BadSetting(BadInput):
    """A setting lies outside its range."""


class BadQuestion(BadInput):
    """There is nothing to answer: neither text nor files."""


class TooLong(BadInput):
    """The conversation does not fit the context of the checkpoint."""


class BadCheckpoint(EngineError):
    """The weights are missing, incomplete, or of another family."""


class EngineFailed(EngineError):
    """The engine could not answer although the question was fine."""


class EngineLoading(EngineFailed):
    """The model is not loaded yet."""


class EngineBusy(EngineFailed):
    """The queue is full; trying again later will do, after `wait_s` where that is known."""

    wait_s: float | None = None


class BrokenOff(EngineFailed):
    """The answer ended before its end; what came of it stays good."""


class ModelChanged(BrokenOff):
    """Another model was chosen while this was asked."""


class OutOfMemory(EngineFailed):
    """The device has no room for this request; a smaller one will do."""
