"""Every way in which an engine elsewhere can fail, each with its own cause and advice.

Pure: what was seen of the fault comes in, an error for a person goes out. No error holds a key.
"""

import re
import socket
import ssl
from dataclasses import dataclass

import httpx

from backend.errors import BadInput, EngineBusy, EngineError, EngineFailed, TooLong

OPTION = "--engine"
KEY_OPTION = "--api-key-file"
LOG = "look into the engine's log"
CONTEXT = re.compile(
    r"context (length|size|window)|maximum context|n_ctx|exceed_context|too long|longer than",
    re.IGNORECASE,
)
PICTURES = re.compile(r"(at most|limit|too many)\D*\d*\D*(image|picture|video)", re.IGNORECASE)


class Unreachable(EngineFailed):
    """No engine answers at this address now; another one may."""


class NotAllowed(EngineFailed):
    """The engine wants a key, or another one."""


class NoSuchModel(EngineFailed):
    """The engine does not serve this model."""


class NotTaken(EngineFailed):
    """The engine does not take the question, for a reason that only itself knows."""


class Broken(EngineFailed):
    """The engine failed by itself; another one may answer."""


class Lost(Broken):
    """The connection ended before the answer did: the engine is gone, perhaps."""


class Silent(EngineFailed):
    """Nothing came in the time that patience allows."""


class TooLarge(BadInput):
    """The engine takes no request of this size."""


class Busy(EngineBusy):
    """The engine has too much to do; `wait_s` is how long it asks to be left alone, if it does."""

    def __init__(self, cause: str, advice: str, wait_s: float | None = None) -> None:
        super().__init__(cause, advice)
        self.args = (cause, advice, wait_s)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer that is no success: what the engine said is fit to be shown."""

    status: int
    said: str = ""
    wait_s: float | None = None  # that it asks for


def explain_reply(reply: Reply, where: str, model: str, has_key: bool) -> EngineError:
    """The error that a status means."""
    said = f" ({reply.said})" if reply.said else ""
    status = reply.status
    if status in (401, 403):
        return _not_allowed(where, has_key)
    if status == 404:
        return _not_found(reply, where, model, said)
    if status == 413:
        return TooLarge(
            f"The question with its pictures is too large for {where}.",
            "Use fewer pictures, or fewer tiles of each.",
        )
    if status == 429:
        return _busy(f"{where} has too much to do{said}.", reply.wait_s)
    if status == 503 and reply.wait_s is not None:
        return _busy(f"{where} cannot answer now{said}.", reply.wait_s)
    if status == 503:
        return Broken(f"{where} is not ready{said}.", f"Ask again in a moment, or {LOG}.")
    if status >= 500:
        return Broken(f"{where} failed with status {status}{said}.", f"Ask again, or {LOG}.")
    if 300 <= status < 400:
        return Unreachable(
            f"{where} sends the question elsewhere (status {status}).",
            f"Give the engine's own address as {OPTION}.",
        )
    return _refused(reply, where, said)


def explain_connection(error: Exception, where: str) -> EngineFailed:
    """The error that a failed connection means, before anything was answered."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return Unreachable(f"No machine is known by the name in {where}.", f"Correct {OPTION}.")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Unreachable(
                f"{where} cannot be trusted: its certificate does not hold.",
                "Correct the address, or the engine's certificate.",
            )
        if isinstance(cause, ssl.SSLError):
            return Unreachable(
                f"{where} does not speak TLS, or another kind of it.",
                f"Give {OPTION} with http:// if that is meant.",
            )
        if isinstance(cause, ConnectionRefusedError):
            return Unreachable(
                f"{where} refuses the connection.",
                f"Start the engine there, or correct {OPTION}.",
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return Unreachable(
            f"{where} cannot be reached.", "Look whether the machine runs and its port is open."
        )
    if isinstance(error, httpx.ConnectError):
        return Unreachable(f"{where} cannot be reached.", f"Start the engine, or correct {OPTION}.")
    return hung_up(where)


def hung_up(where: str) -> Lost:
    """The connection ended before the first word."""
    return Lost(f"{where} hung up before the first word.", f"Ask again, or {LOG}.")


def broke_off(where: str) -> Lost:
    """The connection ended in mid-answer."""
    return Lost(f"{where} broke off in mid-answer.", f"Ask again, or {LOG}.")


def silent(where: str, seconds: float, began: bool) -> Silent:
    """Nothing came for so long: before the first word, or after it."""
    when = "in mid-answer" if began else "before the first word"
    return Silent(
        f"{where} was silent for {seconds:g} s {when}.",
        "Ask again; a shorter question with fewer tiles is read sooner.",
    )


def told(where: str, said: str) -> Broken:
    """The engine reported an error within its answer."""
    return Broken(f"{where} failed while answering ({said}).", f"Ask again, or {LOG}.")


def garbled(where: str, detail: str) -> Broken:
    """What came is not of OpenAI's interface."""
    return Broken(
        f"{where} answers with something else than a chat ({detail}).",
        f"Look whether {OPTION} is the address of an engine, as http://localhost:23333/v1.",
    )


def _not_allowed(where: str, has_key: bool) -> NotAllowed:
    if has_key:
        return NotAllowed(f"{where} does not accept the key.", f"Correct the file of {KEY_OPTION}.")
    return NotAllowed(f"{where} wants a key.", f"Name a file that holds it: {KEY_OPTION}.")


def _not_found(reply: Reply, where: str, model: str, said: str) -> EngineFailed:
    if "model" in reply.said.lower():
        return NoSuchModel(f"{where} does not serve {model}{said}.", "Look which model it serves.")
    return Unreachable(
        f"{where} has no chat at this address.",
        f"Give {OPTION} with the path before /chat/completions, mostly /v1.",
    )


def _busy(cause: str, wait_s: float | None) -> Busy:
    if wait_s is None:
        return Busy(cause, "Ask again in a moment.")
    return Busy(cause, f"Ask again in {max(1, round(wait_s))} s.", wait_s)


def _refused(reply: Reply, where: str, said: str) -> EngineError:
    if CONTEXT.search(reply.said):
        return TooLong(
            f"The conversation is longer than {where} can read{said}.",
            "Start a new chat, or use fewer tiles or frames.",
        )
    if PICTURES.search(reply.said):
        return BadInput(
            f"{where} takes fewer pictures in one conversation{said}.",
            "Use fewer pictures or frames, or start the engine with a higher limit.",
        )
    return NotTaken(
        f"{where} does not take the question{said or f' (status {reply.status})'}.",
        "Change the settings or the files, or start a new chat.",
    )
