"""The waiting line: bounded, fair, and telling everybody their place."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from backend.conversation import Conversation, Request, Sampling
from backend.engine import Progress, Stage
from backend.errors import EngineBusy
from backend.local.waiting import LATELY_S, Manner, Ticket, WaitingLine
from backend.stream import AnswerStream

PREPARED: Any = object()


def ticket(session: str = "a") -> Ticket:
    return Ticket(AnswerStream(Request(Conversation(), session=session)))


def join(line: WaitingLine, session: str, prepared: bool = True) -> Ticket:
    joined = ticket(session)
    line.join(joined)
    if prepared:
        line.prepared(joined, PREPARED)
    return joined


def serve_all(line: WaitingLine) -> list[Ticket]:
    served = []
    while len(line):
        taken = line.take()
        assert taken is not None
        served.append(taken)
        line.done(taken)
    return served


def test_a_session_is_served_in_the_order_of_asking() -> None:
    line = WaitingLine(4)
    asked = [join(line, "a", prepared=False) for _ in range(3)]
    for waiting in reversed(asked):
        line.prepared(waiting, PREPARED)
    assert serve_all(line) == asked


def test_sessions_take_turns() -> None:
    line = WaitingLine(16)
    many = [join(line, "many") for _ in range(5)]
    few = [join(line, "few") for _ in range(2)]
    expected = [many[0], few[0], many[1], few[1], many[2], many[3], many[4]]
    assert serve_all(line) == expected


def test_twenty_questions_of_one_delay_another_by_the_running_one_alone() -> None:
    line = WaitingLine(40)
    for _ in range(20):
        join(line, "many")
    running = line.take()
    single = join(line, "single")
    assert running is not None
    assert single.stream.progress == Progress(Stage.WAITING, ahead=1)
    line.done(running)
    assert line.take() is single


def test_one_who_asks_again_and_again_does_not_overtake_those_who_wait() -> None:
    line = WaitingLine(16)
    first = join(line, "again")
    assert line.take() is first
    waiting = join(line, "waits")
    join(line, "again")
    line.done(first)
    assert line.take() is waiting


def test_a_slow_preparation_does_not_hold_up_other_sessions() -> None:
    line = WaitingLine(16)
    slow = join(line, "slow", prepared=False)
    quick = join(line, "quick")
    assert line.take() is quick
    line.prepared(slow, PREPARED)
    line.done(quick)
    assert line.take() is slow


def test_everybody_knows_how_many_come_first() -> None:
    line = WaitingLine(16)
    many = [join(line, "many") for _ in range(3)]
    other = join(line, "other")
    assert [t.stream.progress.ahead for t in (*many, other)] == [0, 2, 3, 1]
    assert line.take() is many[0]
    assert [t.stream.progress.ahead for t in (other, many[1], many[2])] == [1, 2, 3]
    many[1].stream.close()
    assert [t.stream.progress.ahead for t in (other, many[2])] == [1, 2]
    line.done(many[0])
    assert [t.stream.progress.ahead for t in (other, many[2])] == [0, 1]


def test_the_order_told_is_the_order_of_serving() -> None:
    line = WaitingLine(40)
    tickets = [join(line, session) for session in "aabacbaadcca"]
    told = sorted(tickets, key=lambda t: t.stream.progress.ahead)
    assert serve_all(line) == told


def test_an_unprepared_request_says_so() -> None:
    line = WaitingLine(4)
    waiting = join(line, "a", prepared=False)
    assert waiting.stream.progress.stage is Stage.PREPARING
    line.prepared(waiting, PREPARED)
    assert waiting.stream.progress.stage is Stage.WAITING


def test_the_one_served_soonest_is_prepared_first() -> None:
    line = WaitingLine(16)
    many = [join(line, "many", prepared=False) for _ in range(3)]
    other = join(line, "other", prepared=False)
    prepared = [line.next_unprepared() for _ in range(4)]
    assert prepared == [many[0], other, many[1], many[2]]


def test_a_full_line_refuses_with_the_number() -> None:
    line = WaitingLine(2)
    for session in "abc":
        join(line, session)
    with pytest.raises(EngineBusy, match="3 questions wait already"):
        line.join(ticket("d"))
    running = line.take()
    assert running is not None
    with pytest.raises(EngineBusy, match="2 questions wait already"):
        line.join(ticket("d"))
    line.done(running)
    line.take()
    line.join(ticket("d"))


def test_one_session_cannot_take_the_places_of_all() -> None:
    line = WaitingLine(16)
    join(line, "many")
    line.take()
    for _ in range(12):
        join(line, "many")
    with pytest.raises(EngineBusy, match="12 of your questions wait already"):
        line.join(ticket("many"))
    for session in "wxyz":
        line.join(ticket(session))
    with pytest.raises(EngineBusy, match="16 questions wait already"):
        line.join(ticket("v"))


def test_closing_a_stream_frees_its_place() -> None:
    line = WaitingLine(1)
    waiting = [join(line, "a"), join(line, "b")]
    waiting[0].stream.close()
    assert len(line) == 1
    join(line, "c")
    assert waiting[0] not in serve_all(line)


def test_a_stream_closed_before_it_joined_takes_no_place() -> None:
    line = WaitingLine(1)
    closed = ticket()
    closed.stream.close()
    line.join(closed)
    assert len(line) == 0


def test_shutting_wakes_those_who_wait_for_work_and_returns_those_left() -> None:
    line = WaitingLine(4)
    served, left = join(line, "a"), join(line, "b", prepared=False)
    line.take()
    line.next_unprepared()
    got: list[object] = []
    threads = [
        threading.Thread(target=lambda wait=wait: got.append(wait()), daemon=True)
        for wait in (line.take, line.next_unprepared)
    ]
    for thread in threads:
        thread.start()
    assert line.shut() == [left, served]
    for thread in threads:
        thread.join(20)
    assert got == [None, None]


def test_who_waits_for_work_gets_the_next_that_comes() -> None:
    line = WaitingLine(4)
    got: list[Ticket | None] = []
    waiting = threading.Thread(target=lambda: got.append(line.take()), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    asked = join(line, "a")
    waiting.join(20)
    assert got == [asked]


def test_who_waits_for_work_is_let_go_for_something_else_at_the_next_wake() -> None:
    line = WaitingLine(4)
    looked = threading.Event()
    something: list[str] = []
    got: list[Ticket | None] = []

    def until() -> bool:
        looked.set()
        return bool(something)

    waiting = threading.Thread(target=lambda: got.append(line.take(until=until)), daemon=True)
    waiting.start()
    assert looked.wait(20)
    line.wake()
    waiting.join(0.05)
    assert waiting.is_alive()
    something.append("a picture to encode")
    line.wake()
    waiting.join(20)
    assert got == [None]


def test_requests_of_many_threads_are_served_once_each() -> None:
    line = WaitingLine(2000)
    tickets = [ticket(str(number % 7)) for number in range(300)]

    def enter(part: list[Ticket]) -> None:
        for one in part:
            line.join(one)
            line.prepared(one, PREPARED)

    threads = [threading.Thread(target=enter, args=(tickets[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    served = []
    for _ in tickets:
        taken = line.take()
        assert taken is not None
        line.done(taken)
        served.append(taken)
    for thread in threads:
        thread.join()
    assert set(served) == set(tickets)


def together(_: Ticket) -> Manner:
    return Manner.TOGETHER


def take(line: WaitingLine, judge: Callable[[Ticket], Manner] = together) -> Ticket | None:
    return line.take(judge, wait=False)


def test_several_are_served_at_once_and_no_more() -> None:
    line = WaitingLine(16, at_once=3)
    asked = [join(line, session) for session in "abcd"]
    assert [take(line) for _ in range(4)] == [*asked[:3], None]
    line.done(asked[1])
    assert take(line) is asked[3]


def test_with_several_at_once_the_place_told_is_how_many_must_end_first() -> None:
    line = WaitingLine(16, at_once=2)
    asked = [join(line, session) for session in "abcde"]
    assert [t.stream.progress.ahead for t in asked] == [0, 0, 1, 2, 3]
    first, second = take(line), take(line)
    assert [t.stream.progress.ahead for t in asked[2:]] == [1, 2, 3]
    assert first is not None and second is not None
    line.done(second)
    assert [t.stream.progress.ahead for t in asked[2:]] == [0, 1, 2]


def test_twenty_questions_of_one_with_several_at_once_delay_another_by_one_end() -> None:
    line = WaitingLine(40, at_once=4)
    for _ in range(20):
        join(line, "many")
    running = [take(line) for _ in range(4)]
    single = join(line, "single")
    assert single.stream.progress == Progress(Stage.WAITING, ahead=1)
    assert running[0] is not None
    line.done(running[0])
    assert take(line) is single


def test_one_who_must_be_alone_waits_for_one_alone_and_is_overtaken_meanwhile() -> None:
    line = WaitingLine(16, at_once=4)
    first, second, third = join(line, "a"), join(line, "b"), join(line, "c")

    def judge(ticket: Ticket) -> Manner:
        return Manner.TOGETHER if ticket is third else Manner.ALONE

    assert [take(line, judge) for _ in range(3)] == [first, third, None]
    line.done(first)
    assert take(line, judge) is second


def test_nobody_overtakes_one_for_whom_there_is_no_room_yet() -> None:
    line = WaitingLine(16, at_once=4)
    large, small = join(line, "a"), join(line, "b")
    manner = {large: Manner.LATER, small: Manner.TOGETHER}
    assert take(line, manner.__getitem__) is None
    manner[large] = Manner.TOGETHER
    assert [take(line, manner.__getitem__) for _ in range(2)] == [large, small]


def test_one_with_a_seed_is_told_how_many_of_its_manner_come_first() -> None:
    line = WaitingLine(16, at_once=4)
    seeded = Sampling(temperature=1, seed=1)
    alone = [Ticket(AnswerStream(Request(Conversation(), seeded, name))) for name in "ab"]
    for one in alone:
        line.join(one)
    other = join(line, "c")
    assert [t.stream.progress.ahead for t in (*alone, other)] == [0, 1, 0]


def test_company_is_who_waits_who_is_served_and_who_asked_lately() -> None:
    now = [0.0]
    line = WaitingLine(16, at_once=4, clock=lambda: now[0])
    first = join(line, "a")
    assert not line.has_company(first)
    second = join(line, "a")
    assert line.has_company(first), "rows of one file are company too"
    for _ in (first, second):
        taken = line.take()
        assert taken is not None
        line.done(taken)
    other = join(line, "b")
    assert line.has_company(other), "the other one asked just now"
    line.leave(other)
    now[0] = LATELY_S + 1
    assert not line.has_company(join(line, "b"))
