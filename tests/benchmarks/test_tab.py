"""A tab does with the served page what a browser does, so that its figures mean something."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from backend.conversation import End
from benchmarks import flush
from benchmarks.scripted import ScriptedEngine
from benchmarks.tab import Tab, serve
from ui.sessions import Session, Sessions

WORDS = 200
PATIENCE_S = 30


@dataclass(frozen=True)
class Place:
    """A served page and what its server remembers."""

    port: int
    sessions: Sessions

    def open(self) -> tuple[Tab, Session]:
        tab = Tab(self.port)
        return tab, self.sessions.of(tab.session)


@pytest.fixture(scope="module")
def page() -> Iterator[Place]:
    sessions = Sessions()
    with serve(ScriptedEngine(WORDS), None, sessions) as port:
        yield Place(port, sessions)


def wait_for_end(session: Session) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while session.running is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert session.running is None


def test_a_question_is_streamed_to_its_end(page: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scripted.PACE_S", 0.002)
    tab, session = page.open()
    tab.ask("What stands on the left?")
    tab.wait_for("process_generating", 2)
    tab.wait_until_free()
    tab.close()
    (turn,) = session.conversation.turns
    assert turn.answer is not None
    assert turn.answer.text.endswith(f"word{WORDS - 1} ")


def test_stop_ends_the_answer_and_frees_the_page(page: Place) -> None:
    tab, session = page.open()
    tab.ask("What stands on the left?")
    tab.wait_for("process_generating", 2)
    tab.stop()
    tab.wait_until_free()
    tab.close()
    (turn,) = session.conversation.turns
    assert turn.answer is not None
    assert turn.answer.statistics is not None
    assert turn.answer.statistics.end is End.STOPPED


def test_a_closed_tab_ends_the_answer(page: Place) -> None:
    tab, session = page.open()
    tab.ask("What stands on the left?")
    tab.wait_for("process_generating", 2)
    assert session.running is not None
    stream = session.running.stream
    tab.close()
    wait_for_end(session)
    assert stream.statistics is not None
    assert stream.statistics.end is End.STOPPED


def test_a_flush_is_measured_in_a_chat_of_as_many_messages(
    page: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flush, "LAST", flush.FIRST + 2)
    assert flush.flush(page.port, page.sessions, 20) > 0
    assert len(flush.make_conversation(20).turns) == 10


def test_an_unknown_route_is_an_error(page: Place) -> None:
    tab, _ = page.open()
    with pytest.raises(RuntimeError, match="404"):
        tab._get("/nowhere")
    tab.close()
