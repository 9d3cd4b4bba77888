"""What is made of a crowd: how evenly tokens came, and which answers were good."""

import pytest

from backend.conversation import Conversation, Request
from backend.stream import AnswerStream
from benchmarks.people import compare
from benchmarks.people_lab import Served, is_steady, note_tokens


def served(good_per_s: float, gap_s: float) -> Served:
    gaps = (*[gap_s] * 98, 10 * gap_s, 10 * gap_s)
    return Served(100 / gap_s, 2.0, good_per_s, 0.1, gaps, ())


def test_a_crowd_is_looked_at_closely_only_where_a_goal_is_set() -> None:
    both = [(served(2, 0.004), served(1, 0.002))] * 3
    assert len(list(compare("16 people at once", both, False))) == 2
    told = {one.name.split(" → ")[-1]: one for one in compare("8 people at once", both, True)}
    middle = told["between tokens, median, rival: one at a time"]
    assert (middle.ours.median, middle.ratio and middle.ratio.median) == (4, 0.5)
    assert told["between tokens, p99, rival: one at a time"].ours.median == pytest.approx(40)
    (good,) = (one for name, one in told.items() if "goodput" in name)
    assert good.ratio is not None and good.ratio.median == 2


def test_where_no_answer_of_the_rival_was_good_there_is_no_ratio() -> None:
    both = [(served(2, 0.004), served(0, 0.002))] * 2
    (good,) = (one for one in compare("8 people at once", both, False) if "goodput" in one.name)
    assert good.ratio is None and good.rival is not None and good.rival.median == 0


def test_an_answer_of_one_token_is_steady_and_a_slow_one_is_not() -> None:
    assert is_steady(0) and is_steady(21) and not is_steady(19)


def test_every_token_is_noted_though_a_reader_gets_several_at_a_time() -> None:
    stream = AnswerStream(Request(Conversation()))
    moments: list[float] = []
    note_tokens(stream, moments)
    for number in range(5):
        stream.write("x", [number])
    stream.write("rest of a character")
    stream.finish()
    assert "".join(stream).startswith("xxxxx") and stream.token_ids == (0, 1, 2, 3, 4)
    assert len(moments) == 5 and moments == sorted(moments)
