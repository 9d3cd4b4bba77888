"""Frames: which pictures of a video the model sees. Pure arithmetic; knows no files.

Source: `get_index` of the InternVL3 model card, with `first_idx=0` and `max_frame` the index of
the last frame; the tests compare with what that code gave.
"""

import math

import numpy as np

from backend.errors import BadSetting

FOREVER_S = 100_000  # the card's stand-in for "no bound"


def choose_frames(
    frame_count: int,
    fps: float,
    samples: int,
    start_s: float | None = None,
    end_s: float | None = None,
) -> list[int]:
    """Indices of `samples` frames, in order and evenly spread over the range.

    `fps` is the average rate in frames per second; `start_s` and `end_s` are in seconds, `None`
    means the video's own start and end. An end beyond the video's counts as its end. A video of
    fewer frames than samples gives some of them twice, as the card does.

    Raises `BadSetting` for a range that ends before it starts or starts after the video's end,
    where the card would give indices that do not exist.
    """
    if frame_count < 1 or samples < 1 or not 0 < fps < math.inf:
        raise BadSetting(
            f"{samples} frames cannot be chosen from {frame_count} at {fps:g} per second.",
            "Use a video with pictures and at least 1 frame.",
        )
    start_s = -FOREVER_S if start_s is None else start_s
    end_s = FOREVER_S if end_s is None else end_s
    _require_range(frame_count / fps, start_s, end_s)
    first = max(0, round(start_s * fps))
    last = min(round(end_s * fps), frame_count - 1)
    step = float(last - first) / samples
    return [int(first + step / 2 + np.round(step * index)) for index in range(samples)]


def _require_range(duration_s: float, start_s: float, end_s: float) -> None:
    if math.isnan(start_s) or math.isnan(end_s) or end_s < max(start_s, 0):
        raise BadSetting(
            f"The range {start_s:g}–{end_s:g} s is empty.", "Let it end after it starts."
        )
    if start_s >= duration_s:
        raise BadSetting(
            f"The range starts at {start_s:g} s, but the video lasts {duration_s:.4g} s.",
            f"Start before {duration_s:.4g} s.",
        )
