"""The key reaches the engine and nobody else: no log, no message, no repr, no page."""

import logging
from pathlib import Path

import pytest

import app
from backend.errors import BadSetting
from backend.remote.address import read_address
from backend.remote.key import read_key
from backend.settings import Settings
from tests.backend.remote.conftest import Connect, Serve, ask, question, read_all
from tests.backend.remote.scripted_server import Cut, Reply, refusal, word
from tests.waiting import wait_until
from ui.panels import draw_model

KEY = "sk-5ecret0123456789abcdefghijklmnop"


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "key").write_text(f"{KEY}\n")
    return str(tmp_path / "key")


def test_the_key_is_sent_and_shown_nowhere(
    serve: Serve,
    connect: Connect,
    key_file: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve()
    engine = connect(server.url, api_key_file=key_file)
    shown = [repr(engine), repr(Settings(engines=(server.url,), api_key_file=key_file))]
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    replies = [refusal(status, echo) for status in (400, 401, 403, 404, 429, 500, 503)]
    replies += [refusal(500, f"Bearer {KEY} is wrong", "text/plain")]
    replies += [Reply((f'data: {{"error": "{KEY}"}}\n\n'.encode(),))]
    replies += [Reply((word("So"), f'data: {{"error": "{KEY}"}}\n\n'.encode()))]
    replies += [Reply((f"data: {KEY}\n\n".encode(),)), Reply((Cut(hard=True),))]
    for reply in replies:
        wait_until(lambda: engine.status().reason == "")
        server.scripts.append(reply)
        _, error = read_all(engine.stream(question()))
        assert error is not None
        shown += [str(error), repr(error), repr(error.__cause__), repr(error.__context__)]
        shown.append(draw_model(engine.status()))
    wait_until(lambda: engine.status().reason == "")
    assert ask(engine) == "An answer."
    assert all(asked.headers["Authorization"] == f"Bearer {KEY}" for asked in server.asked)
    assert all(look.headers["Authorization"] == f"Bearer {KEY}" for look in server.looks)
    said = capsys.readouterr()
    shown += [said.out, said.err, caplog.text, *(repr(record.args) for record in caplog.records)]
    assert caplog.records and not [text for text in shown if KEY in text]


def test_a_wrong_key_is_told_on_the_page_without_it(
    serve: Serve, connect: Connect, key_file: str
) -> None:
    server = serve(models=refusal(401, {"error": f"no {KEY}"}))
    engine = connect(server.url, ready=False, api_key_file=key_file)
    wait_until(lambda: bool(engine.status().reason))
    assert "does not accept the key" in engine.status().reason
    assert KEY not in engine.status().reason


def test_the_command_line_shows_no_key(
    serve: Serve, key_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    server.scripts.append(refusal(401, {"error": {"message": f"bad {KEY}"}}))
    words = ["ask", "Q", "--engine", server.url, "--api-key-file", key_file, "--verbose"]
    assert app.main(words) == 3
    said = capsys.readouterr()
    assert "does not accept the key" in said.err and KEY not in said.out + said.err


def test_without_a_key_none_is_sent(serve: Serve, connect: Connect) -> None:
    server = serve()
    ask(connect(server.url))
    assert "Authorization" not in server.asked[0].headers


def test_a_redirect_is_not_followed_with_the_key(
    serve: Serve, connect: Connect, key_file: str
) -> None:
    other, server = serve(), serve()
    engine = connect(server.url, api_key_file=key_file)
    server.scripts.append(refusal(307, "", location=f"{other.url}/chat/completions"))
    assert read_all(engine.stream(question()))[1] is not None
    assert other.asked == other.looks == []


@pytest.mark.parametrize("content", [None, "", "\n\n", "größe", "a\x00b"])
def test_a_file_without_a_key_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "key").write_text(content, encoding="utf-8")
    with pytest.raises(BadSetting, match="--api-key-file"):
        read_key(str(tmp_path / "key"))


@pytest.mark.parametrize(
    "typed",
    ["", "localhost:80", "ftp://host/", "http://", "http://me:secret@host/v1", "http://h/?key=secret",
     "http://rechner_ü:80/v1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_and_not_repeated(typed: str) -> None:
    with pytest.raises(BadSetting) as refused:
        read_address(typed)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("typed", "url", "label"),
    [
        ("http://host:23333/v1", "http://host:23333/v1", "host:23333"),
        ("http://host:23333", "http://host:23333/v1", "host:23333"),
        ("https://host/openai/v1/", "https://host/openai/v1", "host"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1", "[::1]:80"),
    ],
)
def test_an_address_may_leave_out_the_version(typed: str, url: str, label: str) -> None:
    address = read_address(typed)
    assert (address.url, address.label) == (url, label)
