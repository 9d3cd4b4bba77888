"""Taking in requests: bodies no larger than allowed, not for ever, and not too many at once.

Knows bytes and numbers only.
"""

import asyncio
import threading

from starlette.requests import Request

from door.refusals import Refused, too_many

MB = 1 << 20
MOST_BODY = 100 * MB  # one request with its files, which base64 makes a third larger
MOST_TOGETHER = 400 * MB  # of all that are read at the same time
MOST_S = 120.0  # until a body must be here
MOST_OPEN = 256  # answers at the same time; engines have lines of their own


class Intake:
    """Reads bodies on one event loop, within the limits."""

    def __init__(
        self,
        most: int = MOST_BODY,
        together: int = MOST_TOGETHER,
        most_s: float = MOST_S,
    ) -> None:
        self._most = most
        self._together = together
        self._most_s = most_s
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The body: give its length to `release` once it was read. Raises `Refused`."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "The Content-Type must be application/json.", code="invalid_type")
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._most:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._most_s):
                return await self._gather(request)
        except TimeoutError:
            raise Refused(408, f"The body took over {self._most_s:g} s.", code="timeout") from None

    def release(self, length: int) -> None:
        """A body of this length is held no more."""
        self._held -= length

    async def _gather(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._held += len(chunk)
                if len(body) > self._most:
                    raise self._too_large()
                if self._held > self._together:
                    raise too_many(
                        "Too many files are on their way here already. Ask again in a moment."
                    )
        except BaseException:  # refused, gone or cancelled: nothing is held
            self._held -= len(body)
            raise
        return bytes(body)

    def _too_large(self) -> Refused:
        most = f"{self._most / MB:.2g} MB"
        return Refused(413, f"The body is over {most}.", code="request_too_large")


class Places:
    """How many answers may be made at the same time. Thread-safe."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._free = most
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Take so many places, to be given back. Raises `Refused` when they are not free."""
        with self._lock:
            if count > self._free:
                raise too_many("Too many answers are being made already. Ask again in a moment.")
            self._free -= count

    def give_back(self, count: int) -> None:
        """So many answers ended."""
        with self._lock:
            self._free += count
