"""What people will probably ask about is cut and encoded before they do, while they want it."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from backend.conversation import Attachment, Kind
from backend.local.memory.ahead import MOST_SESSIONS, Ahead, Encoding
from backend.local.preparation import Cut
from tests.backend.local.stand_ins import WAIT_S


def file(name: str) -> Attachment:
    return Attachment(name, Kind.IMAGE, name)


A, B, C = map(file, "abc")


def tiles(of: Attachment, count: int = 3) -> Cut:
    return Cut(of.path.encode(), np.zeros((count, 1, 1, 3), np.uint8))


def uncut(ahead: Ahead) -> list[Attachment]:
    """All that is to be cut now."""
    found = []
    while any(work.stage.name == "NEW" for work in ahead._work.values()):
        found.append(ahead.next_uncut())
    return [one for one in found if one is not None]


class Encoder:
    """One tile a batch; notes what was encoded."""

    def __init__(self) -> None:
        self.done: list[bytes] = []
        self.broken: set[bytes] = set()

    def __call__(self, cut: Cut, unwanted: Callable[[], bool]) -> Iterator[None]:
        for _ in cut.tiles:
            if unwanted():
                return
            if cut.key in self.broken:
                raise RuntimeError("evil forward")
            self.done.append(cut.key)
            yield


def test_files_are_cut_and_encoded_in_order_a_batch_at_a_time() -> None:
    woken: list[int] = []
    ahead, encoder = Ahead(lambda: woken.append(1)), Encoder()
    encoding = Encoding(ahead, encoder)
    ahead.expect("one", (A, B))
    assert encoding.idle
    assert uncut(ahead) == [A, B]
    for one in (A, B):
        ahead.cut(one, tiles(one, 2))
    assert len(woken) == 2
    seen = []
    while not encoding.idle:
        encoding.step()
        seen.append(len(encoder.done))
    assert encoder.done == [b"a", b"a", b"b", b"b"]
    assert seen == sorted(seen) and max(np.diff([0, *seen])) == 1
    encoding.step()  # nothing to do is no error
    assert len(encoder.done) == 4


def test_a_removed_file_is_not_cut_and_not_encoded_further() -> None:
    ahead, encoder = Ahead(), Encoder()
    encoding = Encoding(ahead, encoder)
    ahead.expect("one", (A, B))
    assert uncut(ahead) == [A, B]
    ahead.cut(A, tiles(A))
    encoding.step()
    ahead.expect("one", (B,))
    assert not ahead.wants(A) and ahead.wants(B)
    ahead.cut(A, tiles(A))  # was being cut
    while not encoding.idle:
        encoding.step()
    assert encoder.done == [b"a"]


def test_one_more_file_does_not_begin_the_others_anew() -> None:
    ahead = Ahead()
    ahead.expect("one", (A,))
    assert uncut(ahead) == [A]
    ahead.expect("one", (A, B))
    assert uncut(ahead) == [B]
    ahead.cut(A, tiles(A))
    ahead.take_cut()
    ahead.expect("one", (A, B, C))
    assert uncut(ahead) == [C] and not ahead.has_cut


def test_what_another_session_wants_too_is_not_dropped() -> None:
    ahead = Ahead()
    ahead.expect("one", (A,))
    ahead.expect("two", (A,))
    ahead.expect("one", ())
    assert ahead.wants(A)
    ahead.expect("two", ())
    assert not ahead.wants(A)


def test_tiles_are_not_held_once_they_are_taken_or_unwanted() -> None:
    ahead = Ahead()
    ahead.expect("one", (A,))
    uncut(ahead)
    ahead.cut(A, tiles(A))
    assert ahead.take_cut() is not None and ahead.take_cut() is None
    ahead.expect("one", (B,))
    uncut(ahead)
    ahead.cut(B, tiles(B))
    ahead.expect("one", ())
    assert not ahead.has_cut and ahead.take_cut() is None


def test_a_batch_that_fails_costs_its_file_alone() -> None:
    ahead, encoder = Ahead(), Encoder()
    encoding = Encoding(ahead, encoder)
    encoder.broken = {b"a"}
    ahead.expect("one", (A, B))
    for one in uncut(ahead):
        ahead.cut(one, tiles(one, 1))
    with pytest.raises(RuntimeError, match="evil"):
        encoding.step()
    while not encoding.idle:
        encoding.step()
    assert encoder.done == [b"b"]


def test_hints_of_sessions_long_gone_are_forgotten() -> None:
    ahead = Ahead()
    for number in range(MOST_SESSIONS + 1):
        ahead.expect(str(number), (file(str(number)),))
    assert not ahead.wants(file("0")) and ahead.wants(file("1"))


def test_shutting_lets_the_one_who_cuts_go() -> None:
    ahead = Ahead()
    found: list[Attachment | None] = []
    thread = threading.Thread(target=lambda: found.append(ahead.next_uncut()))
    thread.start()
    ahead.shut()
    thread.join(WAIT_S)
    ahead.expect("one", (A,))
    assert found == [None] and not ahead.wants(A) and ahead.next_uncut() is None
