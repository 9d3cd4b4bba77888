"""Replies that end when their reader leaves: server-sent events, and work for one answer.

Whoever goes away ends what was done for them, at once and not at the next word (uvicorn reports
that only to who listens).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from backend.errors import EngineError
from door.answering import Completion, listen, to_event
from door.refusals import Refused, refusal_of

SIGN_OF_LIFE = ": still here\n\n"
STALLED_S = 60.0  # a reader who takes nothing for so long is gone
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # nginx would wait for 4 kB
Result = TypeVar("Result")
logger = logging.getLogger(__name__)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives; it is cancelled and `ClientDisconnect` raised when the client leaves.

    To be called once the request's body was read.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_leave(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _leave(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A completion, chunk by chunk.

    The status is not sent before the first news, so that what is wrong with a request is told by
    the status; or after a silence, since proxies wait no longer.
    """

    media_type = "text/event-stream"

    def __init__(self, completion: Completion, tells_usage: bool, end: Callable[[], None]) -> None:
        """`end` is called once, when nothing of the request is needed any more."""
        self._completion = completion
        self._tells_usage = tells_usage
        self._end = end
        self.status_code = 200
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, until the client leaves."""
        try:
            await unless_gone(receive, self._talk(scope, receive, send))
        except ClientDisconnect:
            pass
        finally:
            self._end()

    async def _talk(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        try:
            async for event in self._events():
                if not begun:
                    begun = True
                    await send(self._start())
                await _send_in_time(send, _body(event, more=True))
        except ClientDisconnect:
            raise
        except Exception as error:  # the border: a program gets words, the log the traceback
            refused = explain(error)
            if not begun:
                await refused.response(scope, receive, send)
                return
            await _send_in_time(send, _body(to_event(refused.body), more=True))
        await _send_in_time(send, _body("", more=False))

    def _start(self) -> dict[str, Any]:
        return {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }

    async def _events(self) -> AsyncIterator[str]:
        texts = [""] * len(self._completion.streams)
        opening: str | None = "".join(self._completion.opening())
        async for news in listen(self._completion.streams):
            if news.text is None:
                event = self._completion.closing(news.index, texts[news.index])
            elif news.text:
                texts[news.index] += news.text
                event = self._completion.piece(news.index, news.text)
            else:
                event = SIGN_OF_LIFE
            yield (opening or "") + event
            opening = None
        if self._tells_usage:
            yield self._completion.cost()
        yield "data: [DONE]\n\n"


def explain(error: Exception) -> Refused:
    """Any error as a refusal; one that was not foreseen goes to the log."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, EngineError):
        return refusal_of(error)
    logger.error("a request failed", exc_info=error)
    words = "Something failed that should not. The log of the server says more."
    return Refused(500, words, None, "internal_error", "server_error")


def _body(text: str, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


async def _send_in_time(send: Callable[[Any], Awaitable[None]], message: dict[str, Any]) -> None:
    try:
        async with asyncio.timeout(STALLED_S):
            await send(message)
    except TimeoutError:
        raise ClientDisconnect from None
