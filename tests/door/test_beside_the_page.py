"""Door and page on one port: each keeps its paths, limits and headers, and they share one line."""

import asyncio
import socket
from collections.abc import Iterator

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from openai import OpenAI

from backend.prompt.compose import Composer
from backend.settings import Settings
from door import open_door
from tests.door.conftest import HELLO, WAIT_S, Served, as_url, picture, said, shown
from tests.fakes import FakeEngine
from ui import build_page, launch_options
from ui.guard import MOST_JSON


@pytest.fixture(scope="module")
def app(composer: Composer) -> Iterator[Served]:
    engine = FakeEngine()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings = Settings(port=free.getsockname()[1])
    door = open_door(engine, lambda: composer, settings)

    async def launch() -> tuple[gr.Blocks, str]:
        page = build_page(door.engine, lambda: composer, settings)
        options = launch_options(settings, door.around)
        _, url, _ = page.launch(prevent_thread_lock=True, **options)
        return page, url

    # Gradio makes event loops where none runs, and never closes them.
    page, url = asyncio.run(launch())
    base = url.rstrip("/")
    with OpenAI(api_key="none", base_url=f"{base}/v1", max_retries=0, timeout=WAIT_S) as client:
        yield Served(base, engine, door, client)
    engine.close()
    page.close(verbose=False)
    door.close()


def test_the_page_is_still_the_page(app: Served) -> None:
    answer = app.get("/")
    assert answer.status_code == 200 and "gradio" in answer.text
    assert "img-src 'self' data: blob:" in answer.headers["content-security-policy"]
    assert app.get("/gradio_api/info").status_code == 200
    assert app.get("/monitoring").status_code == 404
    body = b" " * (MOST_JSON + 1)
    assert httpx.post(f"{app.url}/gradio_api/queue/join", content=body).status_code == 413


def test_programs_are_answered_on_its_port(app: Served) -> None:
    answer = app.client.chat.completions.create(model="fake", messages=HELLO)
    assert answer.choices[0].message.content == "An answer."
    assert app.get("/health").json() == {"status": "ok"}
    assert app.get("/health").headers["x-content-type-options"] == "nosniff"


def test_programs_may_send_more_than_a_page_s_event(app: Served) -> None:
    large = picture(form="BMP", size=(700, 600))
    assert len(large) > MOST_JSON
    assert app.ask(messages=said([shown(as_url(large))])).status_code == 200


def test_words_come_at_once_though_clients_take_compressed_answers(app: Served) -> None:
    app.engine.enqueue(["one ", 600.0])
    create = app.client.chat.completions.create
    with create(model="fake", messages=HELLO, stream=True) as stream:
        assert next(text for chunk in stream if (text := chunk.choices[0].delta.content)) == "one "


def test_questions_of_both_are_counted_in_one_place(app: Served) -> None:
    client = Client(f"{app.url}/", verbose=False)
    client.predict("What is here?", api_name="/ask")
    client.predict(api_name="/follow")
    client.predict(api_name="/settle")
    client.close()
    figures = app.get("/metrics").text
    assert 'chat_requests_total{source="page",end="eos"} 1' in figures
    assert 'chat_requests_total{source="door",end="eos"}' in figures


def test_a_web_page_elsewhere_may_not_ask_for_its_visitor(app: Served) -> None:
    """A browser asks first whether it may send JSON, and is not told that it may."""
    asking = {
        "origin": "https://elsewhere.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    answer = httpx.options(f"{app.url}/v1/chat/completions", headers=asking)
    assert "access-control-allow-origin" not in answer.headers
