"""Keys: who may come in, what stays open, and that no key is ever told."""

import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from backend.errors import BadSetting
from backend.settings import Settings
from door import keys
from terminal.arguments import Serve, read_command
from tests.door.conftest import HELLO, Served, serving
from tests.fakes import FakeEngine

FIRST, SECOND = "sk-first-canary", "sk-second-canary"


@pytest.fixture
def locked(caplog: pytest.LogCaptureFixture) -> Iterator[Served]:
    settings = Settings(door_keys=(FIRST, SECOND))
    with caplog.at_level(logging.DEBUG), serving(FakeEngine(), settings=settings) as served:
        yield served
    assert "canary" not in caplog.text


def with_key(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", [FIRST, SECOND])
def test_each_key_opens(key: str, locked: Served) -> None:
    with OpenAI(api_key=key, base_url=f"{locked.url}/v1", max_retries=0) as client:
        assert client.models.list().data[0].id == "fake"
        answer = client.chat.completions.create(model="fake", messages=HELLO)
        assert answer.choices[0].message.content == "An answer."


@pytest.mark.parametrize(
    "headers",
    [
        {},
        with_key("wrong"),
        {"authorization": "Bearer"},
        with_key(FIRST[:-1]),
        with_key(FIRST + SECOND),
        with_key("schlüssel"),
        {"authorization": FIRST},
        {"authorization": f"Basic {FIRST}"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/fake", "/metrics"])
def test_nothing_else_does(headers: dict[str, str], path: str, locked: Served) -> None:
    sent = {name: value.encode() for name, value in headers.items()}
    answer = locked.get(path, headers=sent)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert "canary" not in answer.text


def test_a_question_without_a_key_is_refused_before_it_is_read(locked: Served) -> None:
    with pytest.raises(openai.AuthenticationError):
        locked.client.chat.completions.create(model="fake", messages=HELLO)
    assert locked.post(content=b"{" * 100).status_code == 401
    assert not locked.engine.requests


def test_health_needs_no_key(locked: Served) -> None:
    assert locked.get("/health").status_code == locked.get("/ready").status_code == 200


def test_whoever_has_a_key_has_one_session_that_does_not_tell_it(locked: Served) -> None:
    for key in (FIRST, FIRST, SECOND):
        locked.post(json={"model": "fake", "messages": HELLO}, headers=with_key(key))
    sessions = [request.session for request in locked.engine.requests]
    assert sessions[0] == sessions[1] != sessions[2]
    assert "canary" not in str(sessions)


def test_every_key_is_compared_in_constant_time(
    locked: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []

    def compare(given: bytes, known: bytes) -> bool:
        compared.append(known)
        return given == known

    monkeypatch.setattr(keys.hmac, "compare_digest", compare)
    locked.get("/v1/models", headers=with_key(FIRST))
    assert compared == [FIRST.encode(), SECOND.encode()]


def test_settings_do_not_show_the_keys() -> None:
    assert "canary" not in repr(Settings(door_keys=(FIRST,)))


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# of the team\n{FIRST}\n\n  {SECOND}  \n")
    command = read_command(["--door-key-file", str(file), "--allow-picture-urls"])
    assert isinstance(command, Serve)
    assert command.settings.door_keys == (FIRST, SECOND)
    assert asdict(command.settings)["allow_picture_urls"] is True


@pytest.mark.parametrize(
    "content",
    [b"", b"# nothing\n", b"short\n", b"sk-with a space\n", b"\xff\xfe", b"sk-\xc3\xbcmlaut\n"],
)
def test_a_file_without_usable_keys_is_refused_and_not_quoted(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(BadSetting) as caught:
        read_command(["--door-key-file", str(file)])
    assert "sk-" not in str(caught.value)


def test_a_file_of_keys_may_lie_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "keys").write_text(FIRST)
    command = read_command(["--door-key-file=~/keys"])
    assert isinstance(command, Serve) and command.settings.door_keys == (FIRST,)


def test_a_missing_file_of_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="No such file"):
        read_command(["--door-key-file", str(tmp_path / "none")])


def test_without_an_engine_elsewhere_the_file_of_keys_is_the_doors(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{FIRST}\n{SECOND}\n")
    command = read_command(["--api-key-file", str(file)])
    assert isinstance(command, Serve)
    assert command.settings.door_keys == (FIRST, SECOND)
    assert command.settings.api_key_file is None
    elsewhere = read_command(["--api-key-file", str(file), "--engine", "http://a:1/v1"])
    assert isinstance(elsewhere, Serve)
    assert (elsewhere.settings.door_keys, elsewhere.settings.api_key_file) == ((), str(file))
    with pytest.raises(BadSetting, match="Leave one out"):
        read_command(["--api-key-file", str(file), "--door-key-file", str(file)])
