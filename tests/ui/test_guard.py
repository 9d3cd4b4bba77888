"""The guard: closed doors, limits on bodies, and headers on every answer."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.ui.conftest import Served
from ui.guard import HEADERS, MOST_JSON, Guard, TooLarge, declared_length
from ui.page import QUEUE_LOOK_S

CLOSED = (
    "/monitoring",
    "/monitoring/summary",
    "/gradio_api/monitoring/summary",
    "/gradio_api/proxy=https://elsewhere.invalid/x",
    "/gradio_api/file=https://elsewhere.invalid/x.png",
    "/gradio_api/file=HTTP://elsewhere.invalid/x.png",
    "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/process_recording",
    "/gradio_api/deep_link",
    "/gradio_api/vibe-code",
    "/gradio_api/runs",
    "/gradio_api/dev/reload",
)


@pytest.mark.parametrize("path", CLOSED)
def test_a_closed_door_is_not_found(served: Served, path: str):
    for method in ("GET", "POST"):
        assert httpx.request(method, served.url.rstrip("/") + path).status_code == 404


def test_the_page_is_served_with_the_policy_and_without_sniffing(served: Served):
    answer = httpx.get(served.url)
    assert answer.status_code == 200
    assert "img-src 'self' data: blob:" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/etc/passwd", "app.py", "assets/checkpoint/config.json"])
def test_files_of_the_machine_are_not_served(served: Served, path: str):
    assert httpx.get(f"{served.url}gradio_api/file={path}").status_code == 403


def test_a_body_that_says_it_is_too_large_is_refused(served: Served):
    answer = httpx.post(f"{served.url}gradio_api/queue/join", content=b" " * (MOST_JSON + 1))
    assert answer.status_code == 413


def test_a_body_that_grows_too_large_is_refused(served: Served):
    pieces = (b" " * 100_000 for _ in range(MOST_JSON // 100_000 + 1))
    answer = httpx.post(f"{served.url}gradio_api/queue/join", content=pieces)
    assert answer.status_code == 413


def test_a_growing_body_is_read_no_further_than_its_limit():
    pieces = 0

    async def receive():
        nonlocal pieces
        pieces += 1
        return {"type": "http.request", "body": b" " * 100_000, "more_body": pieces < 1000}

    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass

    scope = {"type": "http", "path": "/gradio_api/queue/join", "headers": []}
    with pytest.raises(TooLarge):
        asyncio.run(Guard(app)(scope, receive, None))
    assert pieces == MOST_JSON // 100_000 + 1


def test_a_body_of_the_very_limit_passes_and_nothing_but_the_head_of_its_answer_changes():
    sent: list[Any] = []
    body = {"type": "http.response.body", "body": b"ok"}

    async def receive():
        return {"type": "http.request", "body": b" " * MOST_JSON, "more_body": False}

    async def send(message):
        sent.append(message)

    async def app(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send(dict(body))

    length = (b"content-length", b"%d" % MOST_JSON)
    scope = {"type": "http", "path": "/gradio_api/queue/join", "headers": [length]}
    asyncio.run(Guard(app)(scope, receive, send))
    assert sent == [{"type": "http.response.start", "status": 200, "headers": [*HEADERS]}, body]


def test_a_body_that_says_it_is_too_large_is_not_even_begun():
    sent: list[Any] = []

    async def send(message):
        sent.append(message)

    length = (b"content-length", b"%d" % (MOST_JSON + 1))
    scope = {"type": "http", "path": "/gradio_api/queue/join", "headers": [length]}
    asyncio.run(Guard(None)(scope, None, send))
    assert sent[0]["status"] == 413


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"content-length", b"7")], 7),
        ([(b"content-length", b"seven")], 0),
        ([(b"x-number", b"9"), (b"content-length", b"7")], 7),
    ],
)
def test_a_length_is_read_from_its_own_header_where_it_is_a_number(headers, length):
    assert declared_length({"headers": headers}) == length


def test_what_is_no_http_passes_untouched():
    seen: list[Any] = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(Guard(app)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_a_page_that_nobody_uses_looks_seldom_for_events(served: Served):
    """Gradio 6.31 looks a thousand times a second, which is some 7 % of a core."""
    assert served.page._queue.sleep_when_free == QUEUE_LOOK_S
    assert served.page._queue.active_jobs is not None, "it was not launched"
