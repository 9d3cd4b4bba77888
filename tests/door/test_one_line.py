"""Programs and people wait in one line, and take turns in it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from backend.conversation import Conversation, Request, Turn
from backend.engine import State
from backend.local.engine import LocalEngine
from backend.local.waiting import Place
from backend.settings import Settings
from tests.backend.local.stand_ins import ScriptedModel, scripted_engine
from tests.door.conftest import Served, said, serving
from tests.waiting import wait_until

FIRST, SECOND = "sk-first-program", "sk-second-program"


def ask(served: Served, question: str, key: str = FIRST) -> Callable[[], int]:
    body = {"model": served.engine.status().model, "messages": said(question)}
    headers = {"authorization": f"Bearer {key}"}
    return lambda: served.post(json=body, headers=headers).status_code


def test_a_person_and_another_program_wait_for_one_of_many_requests_at_most() -> None:
    model = ScriptedModel()
    model.gate.clear()
    engine = scripted_engine(model)
    settings = Settings(door_keys=(FIRST, SECOND))
    with (
        serving(engine, lambda: engine.composer, settings) as served,
        ThreadPoolExecutor(8) as pool,
    ):
        wait_until(lambda: engine.status().state is State.READY)
        first = []
        for number in range(4):
            first.append(pool.submit(ask(served, f"many {number}")))
            wait_until(lambda: _seen(served) == len(first))
        person = served.door.engine.stream(Request(Conversation((Turn("person"),)), session="tab"))
        other = pool.submit(ask(served, "other", SECOND))
        wait_until(lambda: _seen(served) == 6)
        wait_until(lambda: _all_prepared(engine))  # who is not yet is passed over
        model.gate.set()
        assert {one.result() for one in (*first, other)} == {200}
        assert "".join(person) == "person"
    order = [question.split()[0] for question in model.answered]
    assert sorted(order[:3]) == ["many", "other", "person"]


def test_a_full_line_is_a_429_until_there_is_room() -> None:
    model = ScriptedModel()
    model.gate.clear()
    engine = scripted_engine(model, max_queue=1)
    with serving(engine, lambda: engine.composer) as served, ThreadPoolExecutor(8) as pool:
        wait_until(lambda: engine.status().state is State.READY)
        waiting = []
        for number in range(2):
            waiting.append(pool.submit(ask(served, f"question {number}")))
            wait_until(lambda: _seen(served) == len(waiting))
        assert ask(served, "too many")() == 429
        model.gate.set()
        assert [one.result() for one in waiting] == [200, 200]
        assert ask(served, "again")() == 200


def _all_prepared(engine: LocalEngine) -> bool:
    line = engine._line
    with line._changed:
        waiting = [ticket for tickets in line._sessions.values() for ticket in tickets]
        return all(ticket.place is Place.PREPARED for ticket in waiting)


def _seen(served: Served) -> int:
    """How many requests the engine has been given that did not end."""
    figures = served.door.desk.counts.write(served.engine.status())
    return int(figures.split("\nchat_requests_open ")[1].split("\n")[0])
