"""Boxes in answers: what a model writes is read strictly and never run."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.prompt.boxes import MOST_BOXES, Box, Rectangle, Region, find_regions, scale


def test_a_named_box_is_found():
    assert find_regions("See <ref>a red cat</ref><box>[[1, 20, 300, 1000]]</box>.") == (
        Region("a red cat", (Box(1, 20, 300, 1000),)),
    )


def test_several_boxes_may_bear_one_name():
    assert find_regions("<ref>cats</ref><box>[[1, 2, 3, 4], [5,6,7,8]]</box>") == (
        Region("cats", (Box(1, 2, 3, 4), Box(5, 6, 7, 8))),
    )


def test_several_regions_are_found_in_order():
    answer = "<ref> cat </ref> \n<box>[[1,2,3,4]]</box>, <ref>dog</ref><box>[5, 6, 7, 8]</box>"
    assert [(region.name, len(region.boxes)) for region in find_regions(answer)] == [
        ("cat", 1),
        ("dog", 1),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        "<box>[[1, 2, 3, 4]]</box>",
        "<ref>cat</ref> is at <box>[[1, 2, 3, 4]]</box>",
        "a cat</ref><box>[[1, 2, 3, 4]]</box>",
    ],
)
def test_a_box_may_have_no_name(answer: str):
    assert find_regions(answer) == (Region("", (Box(1, 2, 3, 4),)),)


def test_a_name_holds_for_the_boxes_right_after_it():
    answer = "<ref>cat</ref><box>[[1,2,3,4]]</box> <box>[[5,6,7,8]]</box>"
    assert [region.name for region in find_regions(answer)] == ["cat", "cat"]


def test_an_answer_in_the_making_shows_its_whole_boxes():
    whole = "<ref>cat</ref><box>[[1, 2, 3, 4]]</box> and <ref>dog</ref><box>[[5, 6, 7, 8]]</box>"
    counts = [len(find_regions(whole[:length])) for length in range(len(whole) + 1)]
    assert counts == sorted(counts)
    assert counts[whole.index("</box>") + 5] == 0
    assert counts[whole.index("</box>") + 6] == 1
    assert counts[-2:] == [1, 2]


@pytest.mark.parametrize(
    "content",
    [
        "[[1e9, -5, nan, 3]]",
        "[[0, 0, 1001, 5]]",
        "[[0, 0, 5, 9999999]]",
        "[[-1, 0, 5, 5]]",
        "[[5, 0, 5, 9]]",
        "[[0, 9, 5, 3]]",
        "[[0, 9, 5, 9]]",
        "[[1, 2, 3]]",
        "[[1, 2, 3, 4, 5]]",
        "[[1.5, 2, 3, 4]]",
        "[[１, 2, 3, 4]]",
        "1, 2, 3, 4",
        "__import__('os').system('true')",
        "[[" * 50,
        "",
    ],
)
def test_what_is_no_box_is_passed_over(content: str):
    answer = f"<ref>x</ref><box>{content}</box><ref>y</ref><box>[[1, 2, 3, 4]]</box>"
    assert find_regions(answer) == (Region("y", (Box(1, 2, 3, 4),)),)


@pytest.mark.parametrize(
    "answer",
    [
        "<box>[[1, 2, 3, 4]]",
        "[[1, 2, 3, 4]]</box>",
        "<box>[[1, 2, 3, 4]]</ref>",
        "<box>[[1, 2, 3, 4]]<box></box>",
        "</box>[[1, 2, 3, 4]]<box>",
        "[[1, 2, 3, 4]]",
        "",
    ],
)
def test_tags_that_do_not_pair_give_no_box(answer: str):
    assert find_regions(answer) == ()


def test_a_model_that_runs_wild_is_cut():
    answer = "<box>" * 20_000 + "[[1, 2, 3, 4]]" * 20_000 + "</box>" + "<box>[[1,2,3,4]]</box>"
    assert sum(len(region.boxes) for region in find_regions(answer)) == MOST_BOXES


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(["<ref>", "</ref>", "<box>", "</box>", "[[1, 2, 3, 4]]", "[", "]", "x"])
        | st.text(max_size=5),
        max_size=20,
    ).map("".join)
)
def test_every_box_found_lies_in_the_picture(answer: str):
    for region in find_regions(answer):
        for box in region.boxes:
            assert 0 <= box.left < box.right <= 1000
            assert 0 <= box.top < box.bottom <= 1000


def test_a_box_is_scaled_to_the_picture():
    assert scale(Box(0, 0, 1000, 1000), 640, 480) == Rectangle(0, 0, 640, 480)
    assert scale(Box(250, 500, 750, 750), 640, 480) == Rectangle(160, 240, 480, 360)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.integers(1, 1000), st.integers(1, 5000), st.integers(1, 5000))
def test_a_scaled_box_covers_a_pixel_of_the_picture(
    start: int, length: int, width: int, height: int
):
    end = min(1000, start + length)
    rectangle = scale(Box(start, start, end, end), width, height)
    assert 0 <= rectangle.left < rectangle.right <= width
    assert 0 <= rectangle.top < rectangle.bottom <= height


def test_regions_are_found_where_an_engine_left_the_signs_out():
    answer = "red circle[[850, 330, 1000, 580]]\ncats [[1, 2, 3, 4], [5, 6, 7, 8]].\n"
    assert find_regions(answer) == (
        Region("red circle", (Box(850, 330, 1000, 580),)),
        Region("cats", (Box(1, 2, 3, 4), Box(5, 6, 7, 8))),
    )


@pytest.mark.parametrize(
    "answer",
    [
        "The matrix is m[[1, 2, 3, 4]], of one row.",
        "Here it is:\nm[[1, 2, 3, 4]]",
        "[[1, 2, 3, 4]]",
        "m[1, 2, 3, 4]",
        "red circle[[850, 330, 1000, 58",
    ],
)
def test_without_signs_only_an_answer_that_is_nothing_else_is_one(answer: str):
    assert find_regions(answer) == ()
