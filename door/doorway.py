"""The doorway: which requests are programs', and which the page's. Plain ASGI."""

import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from door.counts import Counts

PATHS = ("/health", "/ready", "/metrics")
PREFIX = "/v1"
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class Doorway:
    """ASGI middleware around the page: what belongs to the door never reaches the page."""

    def __init__(self, app: ASGIApp, door: ASGIApp, counts: Counts) -> None:
        self._page = app
        self._door = door
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request to the door or the page."""
        if scope["type"] != "http" or not is_programs(scope["path"]):
            await self._page(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.respond(message["status"])
                number = f"req_{uuid.uuid4().hex}".encode()
                more = (*HEADERS, (b"x-request-id", number))
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        await self._door(scope, receive, answer)


def is_programs(path: str) -> bool:
    """Whether this path belongs to the door."""
    return path == PREFIX or path.startswith(f"{PREFIX}/") or path.rstrip("/") in PATHS
