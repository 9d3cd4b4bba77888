"""Frames are chosen as the model card chooses them; the card's own code made the vectors."""

import json
import math
from pathlib import Path

import pytest

from backend.errors import BadSetting
from backend.media.frames import choose_frames

GOLDEN = Path(__file__).parents[2] / "golden"


def test_the_frames_are_the_card_s_in_every_recorded_case() -> None:
    cases = json.loads((GOLDEN / "frames.json").read_text())
    assert len(cases) == 400
    for case in cases:
        start_s, end_s = case["range_s"] or (None, None)
        found = choose_frames(case["frame_count"], case["fps"], case["samples"], start_s, end_s)
        assert found == case["indices"], case


def test_every_index_exists_in_the_video() -> None:
    for count in (1, 2, 3, 10, 131):
        for samples in (1, 2, 7, 8, 64):
            for start_s in (None, 0.0, count / 10 * 0.97):
                frames = choose_frames(count, 10.0, samples, start_s)
                assert len(frames) == samples
                assert min(frames) >= 0
                assert max(frames) < count


def test_a_video_of_one_frame_gives_that_frame() -> None:
    assert choose_frames(1, 30.0, 4) == [0, 0, 0, 0]


def test_a_range_may_be_open_at_one_end() -> None:
    assert choose_frames(100, 10.0, 2, start_s=5.0) == choose_frames(100, 10.0, 2, 5.0, 10.0)
    assert choose_frames(100, 10.0, 2, end_s=5.0) == choose_frames(100, 10.0, 2, 0.0, 5.0)


def test_an_end_beyond_the_video_is_its_end() -> None:
    assert choose_frames(100, 10.0, 4, 2.0, 99.0) == choose_frames(100, 10.0, 4, 2.0, 10.0)


def test_a_start_beyond_the_video_is_refused_with_its_length() -> None:
    with pytest.raises(BadSetting, match="starts at 10 s, but the video lasts 10 s"):
        choose_frames(100, 10.0, 4, start_s=10.0)


@pytest.mark.parametrize(("start_s", "end_s"), [(5.0, 4.0), (0.0, -1.0), (math.nan, 3.0)])
def test_an_empty_range_is_refused(start_s: float, end_s: float) -> None:
    with pytest.raises(BadSetting, match="empty"):
        choose_frames(100, 10.0, 4, start_s, end_s)


@pytest.mark.parametrize(
    ("count", "fps", "samples"), [(0, 30.0, 8), (10, 0.0, 8), (10, math.nan, 8), (10, 30.0, 0)]
)
def test_a_video_without_frames_or_rate_is_refused(count: int, fps: float, samples: int) -> None:
    with pytest.raises(BadSetting, match="cannot be chosen"):
        choose_frames(count, fps, samples)
