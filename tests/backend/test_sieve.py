"""The sieve: stop texts cut, signs left out, and nothing else changed, however text is cut up."""

from hypothesis import given
from hypothesis import strategies as st

from backend.sieve import Sieve

SIGNS = ("<|im_end|>", "<img>")
LETTERS = st.text(alphabet="ab#", max_size=24)
TEXTS = st.lists(st.text(alphabet="ab#", min_size=1, max_size=4), min_size=1, max_size=3)


def sift(pieces: list[str], stops: tuple[str, ...] = ()) -> str:
    sieve = Sieve(stops, SIGNS)
    return "".join(map(sieve.sift, pieces)) + sieve.rest()


def said(pieces: list[str], *stops: str) -> tuple[list[str], bool]:
    """What each piece brings, then what is left, without signs; and whether a stop text came."""
    sieve = Sieve(stops)
    out = [sieve.sift(piece) for piece in pieces]
    return [*out, sieve.rest()], sieve.ended


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


def test_the_answer_ends_before_the_text_and_says_no_more() -> None:
    assert said(["one", " two", " three"], "two") == (["one", " ", "", ""], True)


def test_a_text_in_several_pieces_is_never_shown_in_part() -> None:
    assert said(["a#", "#", "#b"], "###") == (["a", "", "", ""], True)


def test_what_only_began_like_one_comes_as_soon_as_that_is_known() -> None:
    assert said(["a#", "#", "b", "c#"], "###") == (["a", "", "##b", "c", "#"], False)


def test_the_earliest_of_several_in_one_piece_counts() -> None:
    assert said(["x bb aa"], "aa", "bb") == (["x ", ""], True)


def test_without_texts_nothing_is_held_back() -> None:
    assert said(["a", "b"]) == (["a", "b", ""], False)


@given(LETTERS, TEXTS, st.data())
def test_any_breaks_give_the_text_up_to_a_stop_text_and_no_part_of_one(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=6).map(sorted))
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    out, found = said(pieces, *stops)
    assert found is any(stop in text for stop in stops)
    whole = "".join(out)
    assert text.startswith(whole)
    assert not any(stop in whole for stop in stops)
    if not found:
        assert whole == text
    else:
        assert any(text[len(whole) :].startswith(stop) for stop in stops)


@given(LETTERS, TEXTS)
def test_nothing_is_held_back_without_need(text: str, stops: list[str]) -> None:
    sieve = Sieve(stops)
    shown = ""
    for end, letter in enumerate(text, start=1):
        shown += sieve.sift(letter)
        if sieve.ended:
            return
        held = text[len(shown) : end]
        assert not held or any(stop.startswith(held) for stop in stops)
