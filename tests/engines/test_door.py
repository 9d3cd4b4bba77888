"""The app as a gateway: the door in front of llama.cpp, asked with OpenAI's own client."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from backend.settings import Settings
from tests.door.conftest import Served, as_url, picture, said, serving, shown, words
from tests.door.test_service_example import CARD, run
from tests.engines.conftest import EXAMPLES, Connect
from tests.engines.running import Llama
from tests.waiting import wait_until


@pytest.fixture
def gateway(llama: Llama, connect: Connect) -> Iterator[Served]:
    engine = connect(llama.url)
    settings = Settings(engines=(llama.url,), allow_picture_urls=True)

    def answer_for_the_internet(desk: Any) -> None:
        desk.fetcher.fetch = lambda url, name: picture()

    with serving(engine, lambda: engine.composer, settings, answer_for_the_internet) as served:
        yield served


def test_the_model_card_s_service_example_runs_unchanged(gateway: Served) -> None:
    response: Any = run(CARD, gateway)["response"]
    assert "red" in response.choices[0].message.content
    assert response.usage.prompt_tokens_details.image_tokens == 16
    streaming = CARD.replace("top_p=0.8)", "top_p=0.8, stream=True)").replace("print", "list")
    names = run(streaming.replace("list(response)", "chunks = list(response)"), gateway)
    chunks: Any = names["chunks"]
    assert "red" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_a_conversation_with_pictures_and_a_video_goes_on_in_turns(gateway: Served) -> None:
    night = as_url((EXAMPLES / "night.png").read_bytes())
    film = as_url((EXAMPLES / "gliding-star.mp4").read_bytes(), "video/mp4")
    first: list[Any] = [words("How many shapes are there?"), shown(night)]
    create = gateway.client.chat.completions.create
    answer = create(model="bundled", messages=said(first), max_tokens=40)
    told = answer.choices[0].message.content
    assert told and answer.choices[0].finish_reason in ("stop", "length")
    second = [words("What moves?"), {"type": "video_url", "video_url": {"url": film}}]
    again = create(model="bundled", messages=said(first, told, second), max_tokens=40)
    assert again.usage.prompt_tokens_details.image_tokens == 16 + 8 * 16
    assert "moves" in again.choices[0].message.content


def test_a_picture_wanted_in_high_detail_is_answered(gateway: Served) -> None:
    parts = [shown(as_url((EXAMPLES / "night.png").read_bytes()), detail="high"), words("What?")]
    create = gateway.client.chat.completions.create
    answer = create(model="bundled", messages=said(parts), max_tokens=10)
    assert answer.usage.prompt_tokens_details.image_tokens == 16


def test_who_leaves_the_door_frees_the_engine_behind_it(endless: Llama, connect: Connect) -> None:
    engine = connect(endless.url, model="bundled")
    with serving(engine, lambda: engine.composer) as served:
        model = served.client.models.list().data[0].id
        stream = served.client.chat.completions.create(
            model=model, messages=said("Tell me."), stream=True, max_tokens=30_000
        )
        next(chunk for chunk in stream if chunk.choices[0].delta.content)
        assert endless.busy == 1
        stream.close()
        wait_until(lambda: endless.busy == 0, "the engine goes on")


def test_an_engine_that_is_closed_is_told_as_a_status(connect: Connect, llama: Llama) -> None:
    engine = connect(llama.url)
    with serving(engine, lambda: engine.composer) as served:
        engine.close()
        with pytest.raises(openai.InternalServerError) as caught:
            served.client.chat.completions.create(model="bundled", messages=said("Hello!"))
        assert caught.value.status_code == 503
