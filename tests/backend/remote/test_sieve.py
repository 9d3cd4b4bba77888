"""The sieve: stop texts cut, signs left out, and nothing else changed, however text is cut up."""

from hypothesis import given
from hypothesis import strategies as st

from backend.remote.sieve import Sieve

SIGNS = ("<|im_end|>", "<img>")


def sift(pieces: list[str], stops: tuple[str, ...] = ()) -> str:
    sieve = Sieve(stops, SIGNS)
    return "".join(map(sieve.sift, pieces)) + sieve.rest()


def test_a_stop_text_ends_it_and_what_follows_never_comes() -> None:
    assert sift(["one two th", "ree four"], ("three",)) == "one two "
    assert sift(["ab", "ab", "c"], ("abc",)) == "ab"
    assert sift(["x stop y end"], ("end", "stop")) == "x "


def test_signs_are_left_out_and_beginnings_are_held_back() -> None:
    sieve = Sieve((), SIGNS)
    assert sieve.sift("a<|im") == "a"
    assert sieve.sift("_end|>b<im") == "b"
    assert sieve.sift("age>") == "<image>"
    assert sieve.sift("<") == "" and sieve.rest() == "<"


def test_boxes_pass() -> None:
    text = "<ref>cat</ref><box>[[1, 2, 3, 4]]</box>"
    assert sift(list(text)) == text


@given(st.text("ab<|>im_endg", max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_the_result_does_not_depend_on_the_cuts(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in zip(places, places[1:], strict=False)]
    for stops in ((), ("ab",), ("bb", "g")):
        whole = sift([text], stops)
        assert sift(pieces, stops) == whole
        assert not any(stop in whole for stop in stops)
