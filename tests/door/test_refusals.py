"""Refusals: the status, the name of the field, and OpenAI's form, which its client understands."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

from backend.engine import Inability, State
from backend.errors import (
    BadCheckpoint,
    BadFile,
    BadQuestion,
    BrokenOff,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineLoading,
    OutOfMemory,
    TooLong,
)
from backend.remote.faults import Busy
from backend.settings import Settings
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
    words,
)
from tests.fakes import FakeEngine
from tests.waiting import wait_until


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, which has OpenAI's form."""
    (error,) = answer.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and error["type"]
    return error


def picture_at(url: Any, **choices: Any) -> list[dict[str, Any]]:
    return said([shown(url, **choices)])


def begin_to_send(served: Served, length: int) -> bytes:
    """Promise a body of this length and send one byte; the beginning of the answer."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as slow:
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: door\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n{" % length
        )
        return slow.recv(4096)


PLACE = "messages[0].content[0]"
USER, ANSWER = {"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "0.7"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": -2}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"seed": 0.5}, "seed"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"stop": 7}, "stop"),
        ({"stop": ["a", 7]}, "stop[1]"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"media_io_kwargs": {"video": {"num_frames": 0}}}, "media_io_kwargs.video.num_frames"),
        ({"tools": [{}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"temprature": 1}, "temprature"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "?"}]}, "messages[0].role"),
        ({"messages": [{"content": "?"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [USER, ANSWER]}, "messages[1].role"),
        ({"messages": [ANSWER, USER]}, "messages[0].role"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "system", "content": "?"}]}, "messages[1].role"),
        ({"messages": said([{"type": "audio"}])}, PLACE),
        ({"messages": said([{"type": "text"}])}, f"{PLACE}.text"),
        ({"messages": said([{}])}, PLACE),
        ({"messages": said(["text"])}, PLACE),
        ({"messages": picture_at(None)}, f"{PLACE}.image_url.url"),
        ({"messages": picture_at("/etc/passwd")}, PLACE),
        ({"messages": picture_at("file:///etc/passwd")}, PLACE),
        ({"messages": picture_at("http://93.184.216.34/a.png")}, PLACE),
        ({"messages": picture_at("data:image/png,raw")}, PLACE),
        ({"messages": picture_at("data:image/png;base64,@@@")}, PLACE),
        ({"messages": picture_at(as_url(b"<svg/>"))}, PLACE),
        ({"messages": picture_at(as_url(b""))}, PLACE),
        ({"messages": picture_at(as_url(picture()), detail="best")}, f"{PLACE}.image_url.detail"),
        ({"messages": said([{"type": "video_url", "video_url": {"url": as_url(picture())}}])},
         PLACE),
        ({"messages": said([{"type": "video_url",
                             "video_url": {"url": "data:video/jpeg;base64,aaaa,bbbb"}}])}, PLACE),
        ({"messages": said("?", [shown(as_url(picture()))], "?")}, "messages[1].content[0]"),
        ({"messages": [{**ANSWER, "tool_calls": [{}]}, USER]}, "messages[0].tool_calls"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str, served: Served) -> None:
    answer = served.ask(**fields)
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["param"] == param
    assert not served.engine.requests
    assert served.ask().status_code == 200


def test_tiles_out_of_range_are_named(served: Served) -> None:
    url = as_url(picture())
    answer = served.ask(messages=picture_at(url, max_dynamic_patch=0))
    assert error_of(answer)["param"] == f"{PLACE}.image_url.max_dynamic_patch"


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "someone", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
        {"tools": [], "tool_choice": "auto", "response_format": {"type": "text"}},
        {"frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "logprobs": False},
        {"messages": [{**USER, "name": "Ann"}, {**ANSWER, "refusal": None, "tool_calls": None},
                      {"role": "user", "content": [{**words("?"), "uuid": "1"}]}]},
    ],
)  # fmt: skip
def test_fields_that_change_nothing_are_passed_over(fields: Any, served: Served) -> None:
    assert served.ask(**fields).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b'"a"', b"[" * 100_000, b'{"n": ' + b"9" * 5000 + b"}",
     b'{"model": "\\ud800"}', b'{"a": NaN'],
)  # fmt: skip
def test_what_is_no_request_at_all_is_refused(body: bytes, served: Served) -> None:
    answer = served.post(content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error_of(answer)


def test_a_body_that_is_no_json_by_its_own_word_is_refused(served: Served) -> None:
    """So a web page elsewhere cannot ask: browsers send JSON only where they may."""
    assert error_of(served.post(content=b"{}", headers={"content-type": "text/plain"}))
    assert served.post(data={"a": "b"}).status_code == 415


def test_an_unknown_model_is_not_found(served: Served) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-9") as caught:
        served.client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        served.client.models.retrieve("gpt-9")


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/embeddings", "/v1/models/a/b"])
def test_an_unknown_path_is_not_found_in_the_same_form(path: str, served: Served) -> None:
    answer = served.get(path)
    assert answer.status_code == 404
    error_of(answer)


def test_a_wrong_method_is_refused_in_the_same_form(served: Served) -> None:
    answer = served.get("/v1/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    error_of(answer)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (TooLong("3,000 of 2,048 tokens.", "Shorten the text."), 400, "context_length_exceeded"),
        (BadFile(PLACE, "it is broken.", "Send another."), 400, "invalid_file"),
        (BadQuestion("There is no question.", "Write one."), 400, None),
        (EngineBusy("16 questions wait already.", "Wait."), 429, "rate_limit_exceeded"),
        (EngineLoading("Loading.", "Wait."), 503, "model_loading"),
        (OutOfMemory("No room.", "Use 6 tiles."), 503, "out_of_memory"),
        (BadCheckpoint("No weights.", "Download."), 503, "model_failed"),
        (EngineFailed("It broke.", "Again."), 503, "engine_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_says_becomes_a_status(
    error: EngineError, status: int, code: str | None, stream: bool, served: Served
) -> None:
    served.engine.enqueue([error])
    answer = served.ask(stream=stream)
    assert answer.status_code == status
    told = error_of(answer)
    assert told["code"] == code and error.cause in told["message"]
    never = answer.headers.get("x-should-retry") == "false"
    assert never is (code in ("out_of_memory", "model_failed"))
    assert ("retry-after" in answer.headers) is (code in ("rate_limit_exceeded", "model_loading"))
    assert served.ask().status_code == 200


def test_a_full_queue_is_told_at_once_and_leaves_no_request_behind(served: Served) -> None:
    class Full(FakeEngine):
        def stream(self, request):
            if len(self.requests) == 2:
                raise EngineBusy("2 questions wait already.", "Ask again in a moment.")
            return super().stream(request)

    with serving(Full()) as served:
        for _ in range(2):
            served.engine.enqueue([60.0])
        with pytest.raises(openai.RateLimitError) as caught:
            served.client.chat.completions.create(model="fake", messages=HELLO, n=3)
        assert caught.value.response.headers["retry-after"] == "5"
        assert all(stream.closed for stream in served.engine.streams)


@pytest.mark.parametrize(
    ("wait_s", "told"), [(90.0, "90"), (0.1, "1"), (2.5, "3"), (0.0, "1"), (None, "5")]
)
def test_how_long_an_engine_elsewhere_wants_to_be_left_alone_is_told(
    wait_s: float | None, told: str, served: Served
) -> None:
    served.engine.enqueue([Busy("llm:8000 has too much to do.", "Ask again later.", wait_s)])
    answer = served.ask()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, told)


def test_an_error_after_the_first_words_comes_within_the_stream(served: Served) -> None:
    served.engine.enqueue(["some ", 0.2, BrokenOff("The engine fell silent.", "Ask again.")])
    text = ""
    with pytest.raises(openai.APIError, match="fell silent"):
        for chunk in served.client.chat.completions.create(
            model="fake", messages=HELLO, stream=True
        ):
            text += chunk.choices[0].delta.content or ""
    assert text == "some "
    assert served.ask().status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_engine_gives_up_is_no_answer(stream: bool, served: Served) -> None:
    served.engine.enqueue([60.0, "late"])

    def give_up() -> None:
        while not served.engine.streams:
            time.sleep(0.01)
        served.engine.streams[-1].close()

    giving_up = threading.Thread(target=give_up)
    giving_up.start()
    answer = served.ask(stream=stream)
    giving_up.join()
    assert answer.status_code == 503 and "ended this answer" in answer.text


def test_a_fault_of_ours_is_told_without_its_details(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.engine.enqueue([RuntimeError("secret of /home/someone")])
    answer = served.ask()
    assert "secret" in caplog.text
    assert answer.status_code == 500
    assert error_of(answer)["code"] == "internal_error" and "secret" not in answer.text


def test_a_loading_model_is_told_with_its_share(served: Served) -> None:
    served.engine.become(State.LOADING, share=0.634)
    answer = served.ask()
    assert answer.status_code == 503 and "63%" in answer.text
    assert answer.headers["retry-after"] == "5"


def test_a_failed_model_is_told_with_its_reason(served: Served) -> None:
    served.engine.become(State.FAILED, reason="No weights.")
    answer = served.ask()
    assert answer.status_code == 503 and "No weights." in answer.text


def test_what_an_engine_cannot_do_is_refused_with_its_reason(served: Served) -> None:
    reasons = (
        Inability("top_k", "This engine chooses among all tokens."),
        Inability("max_new_tokens", "This engine always stops at 1024."),
        Inability("video", "This engine sees no videos."),
    )
    served.engine.now = replace(served.engine.now, unable=reasons)
    assert served.ask(top_k=0).status_code == 200
    for fields, param in (({"top_k": 5}, "top_k"), ({"max_tokens": 5}, "max_tokens")):
        answer = served.ask(**fields)
        assert answer.status_code == 400 and error_of(answer)["param"] == param
        assert "This engine" in answer.text


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(served: Served) -> None:
    assert b"413" in begin_to_send(served, length=10**9)


@pytest.fixture
def narrow() -> Iterator[Served]:
    """A door that takes 100 kB, and 150 kB from all together."""

    def limit(desk: Any) -> None:
        desk.intake._most, desk.intake._together = 100_000, 150_000

    with serving(FakeEngine(), change=limit) as served:
        yield served


def test_a_body_that_grows_too_large_is_refused(narrow: Served) -> None:
    pieces = (b" " * 10_000 for _ in range(20))
    answer = narrow.post(content=pieces, headers={"content-type": "application/json"})
    assert answer.status_code == 413 and "0.095 MB" in error_of(answer)["message"]
    assert narrow.door.desk.intake._held == 0
    assert narrow.ask().status_code == 200


def test_bodies_that_are_too_large_together_wait_their_turn(narrow: Served) -> None:
    narrow.door.desk.intake._held = 149_990
    answer = narrow.ask()
    assert answer.status_code == 429 and answer.headers["retry-after"] == "5"
    narrow.door.desk.intake._held = 0
    assert narrow.ask().status_code == 200
    assert narrow.door.desk.intake._held == 0


def test_a_body_that_never_comes_is_waited_for_no_longer_than_allowed() -> None:
    def hurry(desk: Any) -> None:
        desk.intake._most_s = 0.2

    with serving(FakeEngine(), change=hurry) as served:
        assert b"408" in begin_to_send(served, length=9)


def test_addresses_are_fetched_only_where_that_is_allowed() -> None:
    assert Settings().allow_picture_urls is False
    with serving(FakeEngine(), settings=Settings(allow_picture_urls=True)) as served:
        answer = served.ask(messages=picture_at(f"{served.url}/v1/models"))
        assert answer.status_code == 400 and "public internet" in answer.text


def test_more_answers_than_there_are_places_are_refused_and_places_come_back() -> None:
    def narrow(desk: Any) -> None:
        desk.places._free = 3

    with serving(FakeEngine(), change=narrow) as served:
        assert served.ask(n=4).status_code == 429
        for _ in range(3):
            assert served.ask(n=3).status_code == served.ask(n=2, stream=True).status_code == 200
        served.engine.become(State.FAILED, reason="It broke.")
        assert served.ask(n=3).status_code == 503
        served.engine.become(State.READY)
        served.engine.enqueue([EngineFailed("It broke.", "Again.")])
        assert served.ask().status_code == 503
        assert served.ask(n=3).status_code == 200
    assert served.door.desk.places._free == 3


def test_files_that_fill_their_room_together_are_refused_until_there_is_room() -> None:
    small, large = picture(size=(10, 10)), picture("blue", size=(400, 300))

    def narrow(desk: Any) -> None:
        desk.store._free = len(large) + len(small) - 1

    def ask(*contents: bytes) -> httpx.Response:
        parts = [words("Look."), *(shown(as_url(content)) for content in contents)]
        return served.ask(messages=said(parts))

    with serving(FakeEngine(), change=narrow) as served:
        answer = ask(small, large)
        assert answer.status_code == 429 and answer.headers["retry-after"] == "5"
        assert "Too many files" in error_of(answer)["message"]
        assert not files_in(served.door)
        for _ in range(3):
            assert ask(large, large).status_code == 200  # the same is kept once
    assert served.door.desk.store._free == len(large) + len(small) - 1


def test_one_who_leaves_while_sending_is_no_fault(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    begin_to_leave(served)
    wait_until(lambda: "499" in served.get("/metrics").text)
    assert not caplog.records and served.ask().status_code == 200


def begin_to_leave(served: Served) -> None:
    """Promise a body and leave before it was sent."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as plain:
        plain.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: door\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
