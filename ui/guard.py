"""A guard before the page: what it never serves, how much it takes, and what browsers may load.

Gradio 6.31 has routes that fetch any address or report on the server, no limit on the size of a
request as a whole, and no content policy; this closes them. Plain ASGI: it reads headers and
counts bytes, and knows nothing of chats.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSED = re.compile(
    r"(/gradio_api)?/(monitoring|proxy=|file=\s*[a-z][a-z0-9+.-]*:|process_recording|vibe|deep_link"
    r"|runs|dev/)",
    re.IGNORECASE,
)
MOST_JSON = 1_000_000  # bytes of any request but an upload
MOST_UPLOAD = 1_000_000_000  # bytes of one upload, all its files together

# Scripts and styles of Gradio are inline and compile templates; pictures come from here only.
POLICY = "; ".join((
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "media-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self' data: blob:",
    "worker-src 'self' blob:",
    "object-src 'none'",
    "frame-src 'none'",
    "frame-ancestors 'self'",
    "base-uri 'self'",
    "form-action 'self'",
))  # fmt: skip
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class TooLarge(Exception):
    """The body exceeds what its route may take."""


class Guard:
    """ASGI middleware around the whole page."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = str(scope["path"])
        most = MOST_UPLOAD if path.rstrip("/").endswith("/upload") else MOST_JSON
        if CLOSED.match(path):
            await refuse(send, 404, "Not found.")
        elif declared_length(scope) > most:
            await refuse(send, 413, "Too large.")
        else:
            await self._pass(scope, receive, send, most)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        taken = 0

        async def count() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise TooLarge
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                if taken > most:  # whatever the app made of it
                    message["status"] = 413
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self._app(scope, count, answer)


def declared_length(scope: Scope) -> int:
    """The content length that a request declares, 0 if none that can be read."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def refuse(send: Send, status: int, reason: str) -> None:
    """Answer with a status and a word."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})
