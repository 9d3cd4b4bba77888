"""Refusals: what went wrong, in OpenAI's form and with its status.

    {"error": {"message": …, "type": …, "param": …, "code": …}}

The forms are those of OpenAI's API reference (error codes), which its own client turns into
exceptions. Knows no request and no engine.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import ceil
from typing import Any

from starlette.responses import JSONResponse

from backend.errors import (
    BadCheckpoint,
    BadFile,
    BadInput,
    EngineBusy,
    EngineError,
    EngineLoading,
    OutOfMemory,
    TooLong,
)

INVALID = "invalid_request_error"
AGAIN_S = "5"  # seconds until a client may try again
# OpenAI's client would else ask for the same three times.
NOT_AGAIN = {"x-should-retry": "false"}


class Refused(Exception):
    """A request that is not answered; `param` names the field that is to be mended."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The refusal as clients expect it."""
        told = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": told}

    @property
    def response(self) -> JSONResponse:
        """The refusal as a response."""
        return JSONResponse(self.body, self.status, self.headers)


def refusal_of(error: EngineError) -> Refused:
    """An engine's error with the status that tells a program what to do about it."""
    words = str(error)
    match error:
        case TooLong():
            return Refused(400, words, "messages", "context_length_exceeded")
        case BadFile():
            return Refused(400, words, error.name, "invalid_file")
        case BadInput():
            return Refused(400, words)
        case EngineBusy():
            return too_many(words, error.wait_s)
        case EngineLoading():
            return loading(words)
        case OutOfMemory():
            return Refused(503, words, None, "out_of_memory", "server_error", NOT_AGAIN)
        case BadCheckpoint():
            return Refused(503, words, None, "model_failed", "server_error", NOT_AGAIN)
    return Refused(503, words, None, "engine_failed", "server_error")


def loading(words: str) -> Refused:
    """Not yet: the model is still loading."""
    again = {"retry-after": AGAIN_S}
    return Refused(503, words, None, "model_loading", "server_error", again)


def too_many(words: str, wait_s: float | None = None) -> Refused:
    """Not now: others have taken the room, for `wait_s` where that is known."""
    again = {"retry-after": AGAIN_S if wait_s is None else str(max(1, ceil(wait_s)))}
    return Refused(429, words, None, "rate_limit_exceeded", "rate_limit_error", again)


@contextmanager
def about(param: str) -> Iterator[None]:
    """What is wrong within the block is wrong with the field `param`."""
    try:
        yield
    except BadInput as error:
        raise Refused(400, f"{param}: {error}", param, "invalid_value") from error
