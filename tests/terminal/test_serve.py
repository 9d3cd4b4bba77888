"""The page's place in a shell: a port that is free, an address to click, progress, a clean end."""

import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.engine import State, Status
from backend.errors import BadSetting
from backend.settings import Settings
from terminal.interruption import Interruption
from terminal.serve import UPLOADS, free_port, own_folder, wait
from tests.fakes import FakeEngine


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def test_a_taken_port_is_refused_with_the_way_out(taken: int) -> None:
    with pytest.raises(BadSetting, match=rf"port {taken} .*in use.* --port"):
        free_port(Settings(port=taken))


def test_a_host_of_elsewhere_is_refused() -> None:
    with pytest.raises(BadSetting, match=r"192\.0\.2\.1"):
        free_port(Settings(host="192.0.2.1", port=0))


def test_a_free_port_is_kept_and_none_is_chosen() -> None:
    port = free_port(Settings(port=0))
    assert port > 0
    assert free_port(Settings(port=port)) == port


def end_soon(engine: FakeEngine, state: State, reason: str = "") -> None:
    """Let the engine come into `state`, and press Ctrl-C."""
    engine.become(State.LOADING, 0.5)

    def act() -> None:
        engine.become(state, 1.0, reason)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()

    threading.Timer(0.3, act).start()


@pytest.mark.parametrize(
    ("state", "reason", "line"),
    [
        (State.READY, "", "toy answers on cpu in float32 with sdpa. Ctrl-C ends it."),
        (State.FAILED, "No weights.", "toy cannot answer: No weights."),
    ],
)
def test_address_and_outcome_are_told_and_ctrl_c_ends_the_waiting(
    state: State, reason: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = FakeEngine("toy")
    end_soon(engine, state, reason)
    with Interruption() as interruption:
        wait(interruption, "http://127.0.0.1:1/", engine.status)
    assert capsys.readouterr().out == f"The page is on http://127.0.0.1:1/\n{line}\n"


def test_a_model_that_is_chosen_later_is_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    engine = FakeEngine("toy")
    looks = 0

    def status() -> Status:
        nonlocal looks
        looks += 1
        if looks == 3:
            engine.now = replace(engine.now, model="2B", state=State.LOADING)
        if looks == 5:
            engine.become(State.FAILED, reason="No weights.")
        if looks == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return engine.now

    with Interruption() as interruption:
        wait(interruption, "http://127.0.0.1:1/", status)
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.startswith("toy answers on cpu") and second == "2B cannot answer: No weights."


@pytest.mark.parametrize("chosen", [True, False])
def test_uploads_lie_in_a_private_folder_that_ends_with_the_run(
    chosen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "uploads"
    if chosen:
        monkeypatch.setenv(UPLOADS, str(place))
    else:
        monkeypatch.delenv(UPLOADS, raising=False)
    with pytest.raises(KeyboardInterrupt), own_folder():
        folder = Path(os.environ[UPLOADS])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder.parent == place) is chosen
        (folder / "upload.png").write_bytes(b"somebody's")
        raise KeyboardInterrupt
    assert not folder.exists()
    assert os.environ.get(UPLOADS) == (str(place) if chosen else None)
