"""Connections: one request's at a time, used again, and closed when nobody needs them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from backend.remote import connections as module
from backend.remote.connections import Connections


class Counting:
    """A server that counts its connections, and answers each request after a moment."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.02)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed += 1
        finally:
            writer.close()


Check = Callable[[Counting, Connections], Coroutine[Any, Any, None]]


def run(check: Check) -> None:
    async def within() -> None:
        counting = Counting()
        async with await asyncio.start_server(counting.serve, "127.0.0.1", 0) as server:
            counting.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            connections = Connections(connect_s=5)
            try:
                await check(counting, connections)
            finally:
                await connections.close()

    asyncio.run(within())


async def ask(counting: Counting, connections: Connections, read: bool = True) -> None:
    async with connections.ask(httpx.Request("GET", counting.url)) as response:
        assert response.status_code == 200
        if read:
            assert await response.aread() == b"ok"


async def ask_three_at_once(counting: Counting, connections: Connections) -> None:
    await asyncio.gather(*(ask(counting, connections) for _ in range(3)))
    assert counting.opened == 3 and counting.closed == 0


async def until(what: Callable[[], bool]) -> None:
    """Fails where it does not come to be within some seconds."""
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


def test_questions_at_once_have_a_connection_each_and_later_ones_use_them_again() -> None:
    async def check(counting: Counting, connections: Connections) -> None:
        for _ in range(3):
            await asyncio.gather(*(ask(counting, connections) for _ in range(4)))
        assert counting.opened == 4

    run(check)


def test_a_connection_that_was_not_read_to_its_end_is_not_used_again() -> None:
    async def check(counting: Counting, connections: Connections) -> None:
        await ask(counting, connections, read=False)
        await ask(counting, connections)
        assert counting.opened == 2
        await until(lambda: counting.closed == 1)

    run(check)


def test_what_was_kept_too_long_is_closed_at_the_next_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check(counting: Counting, connections: Connections) -> None:
        await ask_three_at_once(counting, connections)
        monkeypatch.setattr(module, "KEPT_S", 0.05)
        await asyncio.sleep(0.1)
        await ask(counting, connections)
        assert counting.opened == 4
        await until(lambda: counting.closed == 3)

    run(check)


def test_a_question_that_is_given_up_leaves_a_place_that_connects_anew() -> None:
    async def check(counting: Counting, connections: Connections) -> None:
        asking = asyncio.ensure_future(ask(counting, connections))
        await until(lambda: counting.opened == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await ask(counting, connections)
        assert counting.opened == 2
        await until(lambda: counting.closed == 1)

    run(check)


def test_closing_closes_every_connection() -> None:
    async def check(counting: Counting, connections: Connections) -> None:
        await ask_three_at_once(counting, connections)
        await connections.close()
        await until(lambda: counting.closed >= 3)
        assert counting.closed == 3

    run(check)
