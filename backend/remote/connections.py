"""Connections to engines: each is one request's at a time, and kept a moment for the next one.

Each is a transport of httpx with room for one. The pool of httpcore 1.0 looks at every idle
connection for every request, and gives the same one to all who ask in one moment, of whom all but
one ask again (`_async/connection_pool.py`): with sixteen questions at once that was half of what
asking costs. No proxy, no .netrc, no cookie and no redirect stands between, or a key could leave.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

KEPT_S = 3.0  # that a connection waits to be used again; uvicorn closes its own after 5


@dataclass(frozen=True, slots=True)
class Idle:
    """A connection that nobody uses, since when it does not, and to which machine it leads."""

    origin: bytes
    transport: httpx.AsyncHTTPTransport
    since_s: float


class Connections:
    """All connections, to any engine. Runs in one event loop."""

    def __init__(self, connect_s: float) -> None:
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._timeout = httpx.Timeout(None, connect=connect_s).as_dict()
        self._idle: list[Idle] = []  # whoever was used last stands last

    @asynccontextmanager
    async def ask(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """The answer to `request`; what is not read of it by the end of the block is cut off.

        Raises `httpx.HTTPError`.
        """
        origin = request.url.raw_scheme + b"://" + request.url.netloc
        transport = await self._take(origin)
        request.extensions["timeout"] = self._timeout
        try:
            response = await transport.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            self._idle.append(Idle(origin, transport, time.monotonic()))

    async def close(self) -> None:
        """Close all that are idle, which is all once nobody asks."""
        for one in self._idle:
            await one.transport.aclose()
        self._idle.clear()

    async def _take(self, origin: bytes) -> httpx.AsyncHTTPTransport:
        """A connection that was kept, or a new one; those kept for too long are closed."""
        while self._idle and self._idle[0].since_s < time.monotonic() - KEPT_S:
            await self._idle.pop(0).transport.aclose()
        for place in reversed(range(len(self._idle))):
            if self._idle[place].origin == origin:
                return self._idle.pop(place).transport
        return httpx.AsyncHTTPTransport(
            verify=self._tls, trust_env=False, limits=httpx.Limits(keepalive_expiry=KEPT_S)
        )
