"""Clients that leave, read slowly, or wait: their request ends with them, and nobody else's."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from backend.conversation import Conversation, Request, Turn
from door import answering, replies
from door.answering import Completion
from door.replies import EventStream
from tests.door.conftest import (
    HELLO,
    WAIT_S,
    Served,
    as_url,
    files_in,
    picture,
    said,
    serving,
    shown,
)
from tests.fakes import FakeEngine
from tests.waiting import wait_until


@contextmanager
def left_alone(served: Served, **fields: Any) -> Iterator[socket.socket]:
    """Ask, and leave when the block ends, however much of the answer has come."""
    body = json.dumps({"model": "fake", "messages": HELLO} | fields).encode()
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as plain:
        plain.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: door\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        yield plain


def test_leaving_a_stream_ends_the_request(served: Served) -> None:
    served.engine.enqueue(["some ", 600.0])
    with left_alone(served, stream=True) as answer:
        heard = b""
        while b"some " not in heard:
            heard += answer.recv(4096)
        (stream,) = served.engine.streams
        assert not stream.closed
    wait_until(lambda: stream.closed)


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 3}])
def test_leaving_before_the_first_word_ends_the_request_too(
    fields: dict[str, Any], served: Served
) -> None:
    count = fields.get("n", 1)
    for _ in range(count):
        served.engine.enqueue([600.0])
    with left_alone(served, **fields):
        wait_until(lambda: len(served.engine.streams) == count)
    wait_until(lambda: all(stream.closed for stream in served.engine.streams))
    assert served.ask().status_code == 200


def test_files_of_whoever_left_are_removed(served: Served) -> None:
    served.engine.enqueue([600.0])
    with left_alone(served, messages=said([shown(as_url(picture()))])):
        wait_until(lambda: served.engine.streams)
        assert len(files_in(served.door)) == 1
    wait_until(lambda: not files_in(served.door))


def test_one_who_leaves_ends_nobody_else(served: Served) -> None:
    served.engine.enqueue(["some ", 600.0])
    served.engine.enqueue(["a ", 0.8, "whole ", 0.4, "answer"])
    with ThreadPoolExecutor(1) as pool:
        with left_alone(served, stream=True):
            wait_until(lambda: served.engine.streams)
            other = pool.submit(served.ask)
            wait_until(lambda: len(served.engine.streams) == 2)
        assert other.result().json()["choices"][0]["message"]["content"] == "a whole answer"


def test_a_silent_engine_gives_signs_of_life(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "SILENCE_S", 0.1)
    served.engine.enqueue([0.5, "late ", 0.35, "words"])
    answer = served.ask(stream=True)
    signs = [line for line in answer.text.split("\n\n") if line.startswith(":")]
    assert signs
    served.engine.enqueue([0.5, "late ", 0.35, "words"])
    with served.client.chat.completions.create(model="fake", messages=HELLO, stream=True) as stream:
        assert "".join(c.choices[0].delta.content or "" for c in stream) == "late words"


def test_a_status_comes_with_the_first_news_or_after_a_silence(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that an error before it is a status, and a proxy never waits for long."""
    monkeypatch.setattr(answering, "SILENCE_S", 0.1)
    served.engine.enqueue([1.5, RuntimeError("late")])
    answer = served.ask(stream=True)
    assert answer.status_code == 200 and "internal_error" in answer.text
    served.engine.enqueue([RuntimeError("soon")])
    assert served.ask(stream=True).status_code == 500


def test_a_slow_reader_gets_what_piled_up_in_one_piece() -> None:
    """Text waits in the engine's stream, joined, and not in a queue of chunks."""
    sent: list[str] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("body", b"").decode())
        await asyncio.sleep(0.2)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(WAIT_S)
        return {"type": "http.disconnect"}

    engine = FakeEngine()
    engine.enqueue([f"{number} " for number in range(200)])
    stream = engine.stream(Request(Conversation((Turn("?"),))))
    reply = EventStream(Completion("fake", (stream,)), False, stream.close)
    asyncio.run(reply({"type": "http"}, receive, send))
    whole = "".join(sent)
    assert whole.count("data: ") < 40
    assert "199 " in whole and "[DONE]" in whole


def test_a_reader_who_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "STALLED_S", 0.2)

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(WAIT_S)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(WAIT_S)
        return {"type": "http.disconnect"}

    engine = FakeEngine()
    engine.enqueue(["word ", 600.0])
    stream = engine.stream(Request(Conversation((Turn("?"),))))
    begun = time.monotonic()
    reply = EventStream(Completion("fake", (stream,)), False, stream.close)
    asyncio.run(reply({"type": "http"}, receive, send))
    assert stream.closed and time.monotonic() - begun < WAIT_S / 2


def test_sixteen_at_once_are_all_answered(served: Served) -> None:
    for number in range(16):
        served.engine.enqueue([f"{number}a ", 0.2, f"{number}b"])
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: served.ask(), range(16)))
    texts = {answer.json()["choices"][0]["message"]["content"] for answer in answers}
    assert texts == {f"{number}a {number}b" for number in range(16)}


def test_the_door_closes_while_answers_stream_and_leaves_no_file() -> None:
    with serving(FakeEngine()) as served:
        served.engine.enqueue(["some ", 600.0])
        messages = said([shown(as_url(picture()))])
        with left_alone(served, stream=True, messages=messages) as answer:
            assert b"200 OK" in answer.recv(4096)
            folder = files_in(served.door)[0].parent
            served.engine.close()
            served.door.close()
            assert not folder.exists()
