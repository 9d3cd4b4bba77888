"""The shelf makes a value once, keeps what fits, and lets go of those who gave up."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from backend.media.shelf import Shelf
from backend.media.stopping import Stopped


def test_a_value_is_made_once_for_all_who_ask_at_the_same_time() -> None:
    shelf: Shelf[int] = Shelf(10)
    made: list[int] = []
    gate = threading.Event()

    def make() -> int:
        gate.wait(10)
        made.append(1)
        return 7

    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(shelf.get, "key", make) for _ in range(6)]
        gate.set()
        assert [answer.result(10) for answer in answers] == [7] * 6
    assert made == [1]


def test_a_failure_reaches_all_who_wait_and_is_not_kept() -> None:
    shelf: Shelf[int] = Shelf(10)

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        shelf.get("key", fail)
    assert shelf.get("key", lambda: 3) == 3


def test_a_time_out_of_the_maker_s_own_reaches_who_waits() -> None:
    shelf: Shelf[int] = Shelf(10)
    begun, gate = threading.Event(), threading.Event()
    patience = iter([False] * 100 + [True])

    def make() -> int:
        begun.set()
        gate.wait(10)
        raise TimeoutError("the disk")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shelf.get, "key", make)
        begun.wait(10)
        second = pool.submit(shelf.get, "key", make, lambda: next(patience))
        time.sleep(0.2)  # it waits by now
        gate.set()
        for answer in (first, second):
            with pytest.raises(TimeoutError, match="the disk"):
                answer.result(10)


def test_the_least_recently_used_leaves_first() -> None:
    shelf: Shelf[str] = Shelf(10, len)
    shelf.get("a", lambda: "aaaa")
    shelf.get("b", lambda: "bbbb")
    shelf.get("a", lambda: "made again")
    shelf.get("c", lambda: "cccc")
    assert shelf.get("a", lambda: "made again") == "aaaa"
    assert shelf.get("b", lambda: "again") == "again"


def test_what_is_larger_than_the_shelf_is_given_but_not_kept() -> None:
    shelf: Shelf[str] = Shelf(3, len)
    assert shelf.get("a", lambda: "aaaa") == "aaaa"
    assert shelf.get("a", lambda: "b") == "b"


def test_who_gives_up_goes_at_once_and_the_maker_goes_on() -> None:
    shelf: Shelf[int] = Shelf(10)
    gate, started = threading.Event(), threading.Event()

    def make() -> int:
        started.set()
        gate.wait(10)
        return 1

    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(shelf.get, "key", make)
        started.wait(10)
        with pytest.raises(Stopped):
            shelf.get("key", make, lambda: True)
        gate.set()
        assert making.result(10) == 1


def test_when_the_maker_gives_up_another_who_waits_makes_it() -> None:
    shelf: Shelf[int] = Shelf(10)
    gate, started = threading.Event(), threading.Event()

    def give_up() -> int:
        started.set()
        gate.wait(10)
        raise Stopped

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shelf.get, "key", give_up)
        started.wait(10)
        second = pool.submit(shelf.get, "key", lambda: 2)
        gate.set()
        assert second.result(10) == 2
        with pytest.raises(Stopped):
            first.result(10)
