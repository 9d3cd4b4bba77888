"""One engine at one address: looked at, asked, and its answer read as it comes.

Runs in the event loop of `backend.remote.engine`; a request is ended by cancelling its task, which
closes the connection, and by that every engine that was tried stops its work.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

import httpx

from backend.checkpoint.facts import Layout
from backend.errors import BadInput, EngineError, EngineFailed
from backend.remote import faults
from backend.remote.address import Address
from backend.remote.complaints import fit_to_show, read_complaint
from backend.remote.connections import Connections
from backend.remote.dialects import Dialect, choose_dialect
from backend.remote.events import Garbled, Reading, Told, read_body, read_event, read_json
from backend.remote.recognise import Served, read_models
from backend.remote.wire import Order, write_body
from backend.remote.writing import Writing

MOST_OF_AN_ERROR = 64_000  # bytes of an error's body that are read
MOST_LISTED = 4_000_000  # bytes of a list of models, or of an answer in one piece
LATE_LOOKS = 3  # in a row make an engine one that is gone
MOST_KEPT = 4096  # ids of pictures that an engine is believed to have
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for a connection, the first word, a further one, an end."""

    connect_s: float = 5.0
    first_s: float = 600.0  # a large model reads 30,000 tokens, and others come first
    between_s: float = 60.0
    after_end_s: float = 2.0  # for the counts, which some engines send last
    look_s: float = 10.0
    longest_wait_s: float = 30.0  # that a Retry-After is waited for
    watch_s: float = 2.0  # between two looks at all engines


class Node:
    """An engine. `served` is what it serves, `fault` why it does not; neither before a look."""

    def __init__(
        self, address: Address, connections: Connections, key: str, patience: Patience
    ) -> None:
        self.address = address
        self.served: Served | None = None
        self.fault: EngineFailed | None = None
        self._connections = connections
        self._key = key
        self._patience = patience
        self._kept: dict[str, None] = {}
        self._late = 0  # looks in a row that found no answer in time

    @property
    def healthy(self) -> bool:
        """Whether it can be asked."""
        return self.served is not None and self.fault is None

    async def look(self, wanted: str = "") -> None:
        """Find out what it serves, or why it does not. Raises nothing of the engine's."""
        try:
            async with asyncio.timeout(self._patience.look_s):
                self.served = await self._list(wanted)
            self.fault, self._late = None, 0
        except TimeoutError:
            self._late += 1
            if not self.healthy or self._late >= LATE_LOOKS:  # a busy one answers late
                self.fail(faults.silent(self.address.label, self._patience.look_s, began=False))
        except EngineFailed as error:
            if not (self.healthy and isinstance(error, faults.Busy)):
                self.fail(error)

    def fail(self, fault: EngineFailed) -> None:
        """Ask it no more until a look finds it well. Its pictures may be gone with it."""
        if self.fault is None:
            logger.warning("%s", fault)
        self.fault = fault
        self._kept.clear()

    async def answer(self, order: Order, writing: Writing, layout: Layout) -> None:
        """Have it answer. Raises `EngineError`: one of `faults`, by what went wrong."""
        served = self.served
        assert served is not None, "ask only engines that are healthy"
        dialect = choose_dialect(served.software, layout)
        kept = frozenset(self._kept) if dialect.remembers else frozenset()
        spared = any(picture.key in kept for picture in order.pictures)
        try:
            await self._ask(order, writing, dialect, served, kept)
        except (faults.NotTaken, faults.Broken) as error:
            if not spared or writing.began or isinstance(error, faults.Lost):
                raise
            # It has forgotten a picture, perhaps: once more, with all of them.
            self._kept.clear()
            await self._ask(order, writing, dialect, served, frozenset())
        if dialect.remembers:
            self._remember(order)

    async def _list(self, wanted: str) -> Served:
        try:
            async with self._request("GET", "/models") as response:
                content = await _read(response, MOST_LISTED)
                return read_models(read_json(content.decode("utf-8", "replace")), wanted)
        except Garbled as error:
            raise faults.garbled(self.address.label, str(error)) from None
        except BadInput as error:
            raise EngineFailed(error.cause, error.advice) from None

    async def _ask(
        self,
        order: Order,
        writing: Writing,
        dialect: Dialect,
        served: Served,
        kept: frozenset[str],
    ) -> None:
        where = self.address.label
        write = partial(write_body, order, dialect, served.model, kept)
        # Words alone are written at once, pictures of many megabytes in a thread.
        body = await asyncio.to_thread(write) if order.pictures else write()
        limit = asyncio.timeout(self._patience.first_s)
        writing.send()
        fault: EngineError | None = None
        try:
            async with limit, self._request("POST", "/chat/completions", body) as response:
                await self._read_answer(response, writing, limit)
        except TimeoutError:
            patience = self._patience
            seconds = patience.between_s if writing.began else patience.first_s
            fault = None if writing.ended else faults.silent(where, seconds, writing.began)
        except Garbled as error:
            fault = faults.garbled(where, str(error))
        except Told as error:
            fault = faults.told(where, fit_to_show(str(error), [self._key]))
        if fault is None and not writing.ended:
            fault = faults.broke_off(where) if writing.began else faults.hung_up(where)
        if fault is not None:
            raise fault  # here, so that it does not carry what the engine said word for word

    async def _read_answer(
        self, response: httpx.Response, writing: Writing, limit: asyncio.Timeout
    ) -> None:
        """Take events until the last; each puts the limit off."""
        kind = response.headers.get("content-type", "")
        if "json" in kind:  # it does not stream, or something between does not
            whole = await _read(response, MOST_LISTED)
            writing.take(read_body(read_json(whole.decode("utf-8", "replace"))))
            writing.ended = True
            return
        if "event-stream" not in kind:
            raise Garbled(kind.split(";")[0] or "nothing")
        now = asyncio.get_running_loop().time
        async for data in _events(response):
            if not writing.take(read_event(data)):
                return  # which closes the connection; one read to its end is used again
            if writing.ended:
                limit.reschedule(now() + self._patience.after_end_s)
            elif writing.began:
                limit.reschedule(now() + self._patience.between_s)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: bytes | None = None
    ) -> AsyncIterator[httpx.Response]:
        """An answer of status 200. Raises the error of any other, and of a lost connection.

        In mid-answer a lost connection only ends the events.
        """
        url, where = self.address.url + path, self.address.label
        read = False
        try:
            request = httpx.Request(method, url, content=body, headers=self._headers())
            async with self._connections.ask(request) as response:
                if response.status_code != 200:
                    raise await self._explain(response)
                read = True
                yield response
        except httpx.HTTPError as error:
            if not read:
                raise faults.explain_connection(error, where) from None

    def _headers(self) -> Mapping[str, str]:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        return headers | ({"Authorization": f"Bearer {self._key}"} if self._key else {})

    async def _explain(self, response: httpx.Response) -> EngineError:
        content = await _read(response, MOST_OF_AN_ERROR)
        reply = faults.Reply(
            response.status_code,
            fit_to_show(read_complaint(content), [self._key]),
            read_wait(response.headers.get("retry-after", "")),
        )
        model = self.served.name if self.served else "a model"
        return faults.explain_reply(reply, self.address.label, model, bool(self._key))

    def _remember(self, order: Order) -> None:
        for picture in order.pictures:
            self._kept.pop(picture.key, None)
            self._kept[picture.key] = None
        for key in list(self._kept)[: max(0, len(self._kept) - MOST_KEPT)]:
            del self._kept[key]


def read_wait(retry_after: str) -> float | None:
    """The seconds of a Retry-After, be they told or those to a date (RFC 9110, 10.2.3)."""
    if re.fullmatch(r"\d{1,6}(\.\d+)?", retry_after.strip()):
        return float(retry_after)
    try:
        left = parsedate_to_datetime(retry_after) - datetime.now(UTC)
    except (TypeError, ValueError):  # nothing, no date, or one without a zone
        return None
    return max(0.0, left.total_seconds())


async def _read(response: httpx.Response, most: int) -> bytes:
    """The body, cut at `most` bytes; what came before the connection was lost."""
    content = b""
    try:
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > most:
                break
    except httpx.HTTPError:
        pass
    return content[:most]


async def _events(response: httpx.Response) -> AsyncIterator[str]:
    """The data of each event, until the body ends or breaks off."""
    reading = Reading()
    async for chunk in response.aiter_bytes():
        for data in reading.feed(chunk):
            yield data
