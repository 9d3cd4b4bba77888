"""Conversations are edited by making new ones, and settings are checked when they are made."""

import copy
from dataclasses import FrozenInstanceError

import pytest

from backend.conversation import (
    MOST_STOPS,
    Answer,
    Attachment,
    Conversation,
    Kind,
    Sampling,
    Turn,
)
from backend.errors import BadSetting

PICTURE = Attachment("/uploads/a.png", Kind.IMAGE, "a.png")
CLIP = Attachment("/uploads/b.mp4", Kind.VIDEO, "b.mp4", frames=8)


def test_a_conversation_waits_until_its_last_turn_is_answered() -> None:
    asked = Conversation().asked(Turn("What is this?", (PICTURE,)))
    assert asked.waits
    assert not asked.answered(Answer("A circle.")).waits
    assert asked.answered(Answer("A circle.")).unanswered() == asked


def test_edits_leave_the_conversation_they_start_from_alone() -> None:
    first = Conversation().asked(Turn("One?")).answered(Answer("1"))
    second = first.asked(Turn("Two?", (CLIP,)))
    assert len(first.turns) == 1
    assert second.without_last() == first
    assert second.instructed("Be brief.").turns == second.turns
    with pytest.raises(FrozenInstanceError):
        first.turns = ()  # type: ignore[misc]


def test_removing_the_last_turn_of_an_empty_conversation_changes_nothing() -> None:
    assert Conversation().without_last() == Conversation()


def test_files_of_earlier_turns_stay_in_order() -> None:
    first = Conversation().asked(Turn("1", (PICTURE,))).answered(Answer("-"))
    chat = first.asked(Turn("2", (CLIP,)))
    assert chat.attachments == (PICTURE, CLIP)


def test_a_conversation_can_be_hashed_and_copied() -> None:
    chat = Conversation().asked(Turn("1", (PICTURE,)))
    assert hash(copy.deepcopy(chat)) == hash(chat)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_k", -1),
        ("repetition_penalty", 9.0),
        ("max_new_tokens", 0),
        ("max_new_tokens", 10**9),
        ("max_new_tokens", "many"),
        ("max_new_tokens", True),
        ("seed", -1),
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_name(setting: str, value: object) -> None:
    with pytest.raises(BadSetting, match=setting.replace("_", "[ -]")):
        Sampling(**{setting: value})  # type: ignore[arg-type]


def test_an_empty_range_of_a_video_is_refused_with_its_name() -> None:
    with pytest.raises(BadSetting, match=r"b\.mp4.*empty"):
        Attachment("/uploads/b.mp4", Kind.VIDEO, "b.mp4", start_s=4, end_s=4)


@pytest.mark.parametrize("range_s", [(None, 4), (4, None), (3.9, 4)])
def test_a_range_of_a_video_may_lack_an_end(range_s: tuple[float | None, float | None]) -> None:
    start_s, end_s = range_s
    clip = Attachment("/uploads/b.mp4", Kind.VIDEO, "b.mp4", start_s=start_s, end_s=end_s)
    assert (clip.start_s, clip.end_s) == range_s


@pytest.mark.parametrize("stop", [("x",) * (MOST_STOPS + 1), ("x", "")])
def test_too_many_stop_texts_and_an_empty_one_are_refused(stop: tuple[str, ...]) -> None:
    assert len(Sampling(stop=("x",) * MOST_STOPS).stop) == MOST_STOPS
    with pytest.raises(BadSetting, match=f"{len(stop)} stop texts.*at most 16, none of them empty"):
        Sampling(stop=stop)


def test_zero_tiles_are_refused() -> None:
    with pytest.raises(BadSetting, match=r"tiles of a\.png"):
        Attachment("/uploads/a.png", Kind.IMAGE, "a.png", max_tiles=0)


@pytest.mark.parametrize("tokens", [0, 10**9, 10**400])
def test_whole_numbers_out_of_range_are_told_in_full_and_never_break(tokens: int) -> None:
    with pytest.raises(BadSetting) as refusal:
        Sampling(max_new_tokens=tokens)
    assert f"{tokens:,}"[:20] in refusal.value.cause
    assert refusal.value.advice == "Choose a value from 1 to 32,768."
    assert len(str(refusal.value)) < 100
