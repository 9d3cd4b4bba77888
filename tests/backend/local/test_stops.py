"""Stop texts: found across any break of tokens, held back only while they may come."""

from hypothesis import given
from hypothesis import strategies as st

from backend.local.stops import StopTexts

LETTERS = st.text(alphabet="ab#", max_size=24)
TEXTS = st.lists(st.text(alphabet="ab#", min_size=1, max_size=4), min_size=1, max_size=3)


def said(pieces: list[str], *stops: str) -> tuple[list[str], bool]:
    watch = StopTexts(stops)
    out = [watch.feed(piece) for piece in pieces]
    return [*out, watch.end()], watch.found


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
    watch = StopTexts(stops)
    shown = ""
    for end, letter in enumerate(text, start=1):
        shown += watch.feed(letter)
        if watch.found:
            return
        held = text[len(shown) : end]
        assert not held or any(stop.startswith(held) for stop in stops)
