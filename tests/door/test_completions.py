"""Completions: what goes to the engine, and what comes back, whole and in chunks."""

import json
from dataclasses import replace
from typing import Any

import pytest

from backend.conversation import End, Kind
from backend.engine import State
from backend.prompt.compose import Composer
from backend.settings import Settings
from tests.door.conftest import (
    HELLO,
    Served,
    as_url,
    files_in,
    picture,
    said,
    serving,
    shown,
    words,
)
from tests.fakes import FakeEngine
from tests.ui.conftest import write_clip
from tests.waiting import wait_until


def events(text: str) -> list[Any]:
    """What a stream of events tells, the last line aside, which must be the end."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_an_answer_comes_whole_with_its_cost(served: Served) -> None:
    served.engine.enqueue(["A red ", "circle."])
    answer = served.client.chat.completions.create(model="fake", messages=HELLO)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "A red circle.")
    assert choice.finish_reason == "stop" and answer.object == "chat.completion"
    assert answer.usage.model_dump(include={"prompt_tokens", "completion_tokens"}) == {
        "prompt_tokens": 60,
        "completion_tokens": 2,
    }
    assert answer.usage.prompt_tokens_details.image_tokens == 16


def test_an_answer_comes_in_pieces_while_the_engine_writes_on(served: Served) -> None:
    served.engine.enqueue(["one ", 600.0])
    create = served.client.chat.completions.create
    with create(model="fake", messages=HELLO, stream=True) as stream:
        chunks = iter(stream)
        assert next(chunks).choices[0].delta.role == "assistant"
        assert next(chunks).choices[0].delta.content == "one "
    served.engine.enqueue(["one ", 0.2, "two ", 0.2, "three"])
    chunks = list(create(model="fake", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_cost_ends_a_stream_if_it_is_asked_for(served: Served) -> None:
    for wanted in (True, False):
        options = {"include_usage": wanted}
        told = events(served.ask(stream=True, stream_options=options).text)
        assert (told[-1]["choices"] == []) is wanted
        assert ("usage" in told[-1]) is wanted


def test_a_full_length_is_told() -> None:
    class Cut(FakeEngine):
        def _follow(self, script, stream):
            stream.begin(prompt_tokens=60, visual_tokens=16)
            stream.write("word", [1])
            stream.finish(End.LENGTH)

    with serving(Cut()) as served:
        assert served.ask().json()["choices"][0]["finish_reason"] == "length"


def test_several_answers_are_several_requests_with_seeds_of_their_own(served: Served) -> None:
    for text in ("one", "two", "three"):
        served.engine.enqueue([text])
    answer = served.ask(n=3, seed=7, temperature=1).json()
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["one", "two", "three"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [request.sampling.seed for request in served.engine.requests] == [7, 8, 9]
    assert answer["usage"]["prompt_tokens"] == 60 and answer["usage"]["completion_tokens"] == 3


def test_several_answers_stream_side_by_side(served: Served) -> None:
    served.engine.enqueue(["a", 600.0])
    served.engine.enqueue([0.1, "b"])
    texts = ["", ""]
    create = served.client.chat.completions.create
    with create(model="fake", messages=HELLO, n=2, stream=True) as stream:
        for chunk in stream:
            (choice,) = chunk.choices
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                break
    assert (choice.index, choice.finish_reason) == (1, "stop")
    assert texts == ["a", "b"]


def test_every_choice_of_sampling_arrives(served: Served) -> None:
    served.ask(
        temperature=0.8, top_p=0.7, top_k=40, repetition_penalty=1.1, max_tokens=5, seed=3,
        stop=["END", "\n"],
    )  # fmt: skip
    sampling = served.engine.requests[-1].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.8, 0.7, 40)
    assert (sampling.repetition_penalty, sampling.max_new_tokens) == (1.1, 5)
    assert (sampling.seed, sampling.stop) == (3, ("END", "\n"))


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({}, "temperature", 0.0),
        ({"max_completion_tokens": 9, "max_tokens": 5}, "max_new_tokens", 9),
        ({"max_tokens": None, "stop": None, "seed": None}, "max_new_tokens", 1024),
        ({"top_k": -1}, "top_k", 0),
        ({"seed": -1}, "seed", 2**32 - 1),
        ({"stop": "END"}, "stop", ("END",)),
        ({"temperature": 1}, "temperature", 1),
    ],
)
def test_other_ways_of_saying_it_are_understood(
    fields: dict[str, Any], name: str, value: Any, served: Served
) -> None:
    assert served.ask(**fields).status_code == 200
    assert getattr(served.engine.requests[-1].sampling, name) == value


def test_messages_become_turns(served: Served) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [words("Be kind.")]},
        {"role": "user", "content": "What is"},
        {"role": "user", "content": [words("this?"), words("Say.")]},
        {"role": "assistant", "content": [words("A circle.")]},
        {"role": "user", "content": "Sure?"},
    ]
    assert served.ask(messages=messages).status_code == 200
    conversation = served.engine.requests[-1].conversation
    assert conversation.system == "Be brief.\nBe kind."
    assert [turn.question for turn in conversation.turns] == ["What is\nthis?\nSay.", "Sure?"]
    assert conversation.turns[0].answer.text == "A circle."
    assert conversation.waits


def test_without_a_system_message_the_checkpoints_own_holds(served: Served) -> None:
    served.ask()
    assert served.engine.requests[-1].conversation.system is None


def test_pictures_arrive_in_order_with_their_tiles(served: Served) -> None:
    parts = [
        shown(as_url(picture("red"))),
        words("Compare."),
        shown(as_url(picture("blue"), "image/x-nonsense"), detail="low"),
        shown(as_url(picture("red", "WEBP")), detail="high", max_dynamic_patch=3),
        shown(as_url(picture("red", "JPEG")), detail="auto"),
    ]
    assert served.ask(messages=said([*parts])).status_code == 200
    (turn,) = served.engine.requests[-1].conversation.turns
    assert turn.question == "Compare."
    assert [file.max_tiles for file in turn.attachments] == [None, 6, 3, None]
    assert {file.kind for file in turn.attachments} == {Kind.IMAGE}
    assert turn.attachments[2].name == "messages[0].content[3]"


def test_detail_asks_an_engine_elsewhere_for_no_more_than_the_checkpoint_has(
    composer: Composer,
) -> None:
    facts = replace(composer.facts, max_tiles=12)
    known = Composer(facts, composer.tokens, composer.media)
    details = ("low", "medium", "high", "auto")
    parts = [shown(as_url(picture()), detail=detail) for detail in details]
    parts += [shown(as_url(picture()), max_dynamic_patch=20)]
    for settings, tiles in (
        (Settings(), [6, 12, 24, None, 20]),
        (Settings(engines=("http://a:1",)), [6, 12, 12, None, 20]),
    ):
        with serving(FakeEngine(), lambda: known, settings) as served:
            assert served.ask(messages=said(parts)).status_code == 200
            (turn,) = served.engine.requests[-1].conversation.turns
            assert [file.max_tiles for file in turn.attachments] == tiles


def test_a_video_arrives_with_its_frames(served: Served, tmp_path) -> None:
    write_clip(tmp_path / "clip.mp4")
    url = as_url((tmp_path / "clip.mp4").read_bytes(), "video/mp4")
    parts = [{"type": "video_url", "video_url": {"url": url}}, words("What moves?")]
    more = {"media_io_kwargs": {"video": {"num_frames": 4}}}
    assert served.ask(messages=said(parts), **more).status_code == 200
    ((video,),) = (turn.attachments for turn in served.engine.requests[-1].conversation.turns)
    assert (video.kind, video.frames) == (Kind.VIDEO, 4)


def test_files_are_there_while_they_are_needed_and_no_longer(served: Served) -> None:
    parts = [shown(as_url(picture())), shown(as_url(picture())), shown(as_url(picture("blue")))]
    served.ask(messages=said(parts))
    wait_until(lambda: not files_in(served.door))
    served.engine.enqueue(["a", 600.0])
    create = served.client.chat.completions.create
    with create(model="fake", messages=said(parts), stream=True) as stream:
        next(iter(stream))
        attachments = served.engine.requests[-1].conversation.attachments
        assert len({file.path for file in attachments}) == 2 == len(files_in(served.door))
        assert all(path.stat().st_mode & 0o077 == 0 for path in files_in(served.door))
    wait_until(lambda: not files_in(served.door))


def test_files_of_a_refused_request_are_removed(served: Served) -> None:
    parts = [shown(as_url(picture())), shown(as_url(b"no picture"))]
    assert served.ask(messages=said(parts)).status_code == 400
    assert not files_in(served.door)


def test_the_same_picture_lies_at_the_same_place_while_two_need_it(served: Served) -> None:
    served.engine.enqueue(["a", 600.0])
    messages = said([shown(as_url(picture()))])
    create = served.client.chat.completions.create
    with create(model="fake", messages=messages, stream=True) as stream:
        next(iter(stream))
        served.ask(messages=messages)
        first, second = (r.conversation.attachments[0].path for r in served.engine.requests)
        assert first == second
        assert len(files_in(served.door)) == 1
    wait_until(lambda: not files_in(served.door))


def test_models_are_listed_and_found(served: Served, composer) -> None:
    (model,) = served.client.models.list().data
    assert model.id == "fake" and model.object == "model"
    assert served.client.models.retrieve("fake").id == "fake"
    told = served.get("/v1/models").json()["data"][0]
    assert told["max_model_len"] == composer.facts.context_length


def test_health_and_readiness_follow_the_engine(served: Served) -> None:
    assert served.get("/ready").json() == {"state": "ready", "model": "fake"}
    served.engine.become(State.LOADING, share=0.634)
    answer = served.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {"state": "loading", "model": "fake", "done": 0.63}
    assert served.get("/health").status_code == 200
    served.engine.become(State.FAILED, reason="No weights.")
    assert served.get("/ready").status_code == 503


def test_everything_else_is_the_pages(served: Served) -> None:
    for path in ("/", "/v1beta", "/healthy", "/gradio_api/info", "/metricsx"):
        assert served.get(path).text == "This is the page.", path


def test_programs_and_people_have_sessions_of_their_own(served: Served) -> None:
    served.ask()
    assert served.engine.requests[-1].session == "door:127.0.0.1"
