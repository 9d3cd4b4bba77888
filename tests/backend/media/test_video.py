"""Frames of videos are the very ones that were chosen, with either decoder, or a refusal."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av  # noqa: F401  (before decord, or the FFmpeg in that takes the place of its own)
import numpy as np
import pytest
from decord import VideoReader, cpu
from PIL import Image

from backend.errors import BadFile
from backend.media.limits import Limits
from backend.media.stopping import StopSign
from backend.media.video import Asked, VideoIndex, cut_frames, index_video
from backend.media.visit import Message, visit
from backend.media.wire import Ask, Head, Tag
from tests.backend.media.corpus import every_frame, picture, remuxed, sound, turned, video

TILE = 56
UNEVEN = [0, 1, 2, 5, 6, 7, 20, 21, 22, 23, 24, 40, 41, 60, 61, 62, 63, 90, 91, 92]
OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"}
LIMITS = Limits()
HEAD = Head(64, 48, 1.0, tick_s=1.0, ordered=True, promised_s=0.0, closed=True)


def make(folder: Path, kind: str) -> Path:
    """A video of one of the kinds that people have."""
    path = folder / f"{kind}.mp4"
    if kind == "h264 with b-frames":
        return video(path, options={"g": "12", "bf": "3"})
    if kind == "h264 with open groups":
        return video(path, options=OPEN_GOP)
    if kind == "hevc":
        return video(path, "libx265", options={"x265-params": "log-level=none:keyint=12"})
    if kind == "vp9":
        return video(folder / "vp9.webm", "libvpx-vp9", options={"g": "12", "cpu-used": "4"})
    if kind == "uneven times":
        return video(path, frames=len(UNEVEN), times=UNEVEN, options={"g": "8"})
    if kind == "turned by a quarter":
        flat = video(folder / "flat.mp4", size=(128, 96), options={"g": "12"})
        return turned(flat, path)
    if kind == "odd sides":
        return video(path, size=(65, 49), pixels="yuv444p", options={"g": "12"})
    if kind == "one frame":
        return video(path, frames=1)
    assert kind == "matroska"
    return video(folder / "x.mkv", options={"g": "12", "bf": "2"})


KINDS = [
    "h264 with b-frames",
    "h264 with open groups",
    "hevc",
    "vp9",
    "uneven times",
    "turned by a quarter",
    "odd sides",
    "one frame",
    "matroska",
]


def tiles(path: Path, index: VideoIndex, indices: list[int], decoder: str) -> np.ndarray:
    return cut_frames(str(path), path.name, index, indices, TILE, decoder, LIMITS).tiles


def refused(path: Path, limits: Limits = LIMITS, name: str = "clip.mp4") -> str:
    with pytest.raises(BadFile) as caught:
        index = index_video(str(path), name, limits)
        cut_frames(str(path), name, index, [0], TILE, "av", limits)
    assert str(caught.value).startswith(f"{name}: ")
    assert caught.value.advice
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_are_the_true_ones_with_both_decoders(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path, kind)
    truth = every_frame(path)
    index = index_video(str(path), path.name, LIMITS)
    card = VideoReader(str(path), ctx=cpu(0), num_threads=1)
    assert len(index.pts) == len(card) == len(truth)
    assert index.head.fps == pytest.approx(card.get_avg_fps(), rel=1e-9)
    assert (index.head.height, index.head.width) == truth[0].shape[:2]
    # Near and far, over key frames and between them, one of them twice.
    chosen = sorted({0, 1, 5, 13, 14, 30, 37, len(truth) - 1} & set(range(len(truth))))
    chosen.append(chosen[-1])
    expected = np.stack(
        [np.asarray(Image.fromarray(truth[at]).resize((TILE, TILE))) for at in chosen]
    )
    np.testing.assert_array_equal(tiles(path, index, chosen, "av"), expected)
    np.testing.assert_array_equal(tiles(path, index, chosen, "decord"), expected)


def test_times_are_those_of_the_frames(tmp_path: Path) -> None:
    path = make(tmp_path, "uneven times")
    index = index_video(str(path), "x", LIMITS)
    found = [index.time_s(at) for at in range(len(UNEVEN))]
    assert found == pytest.approx([ticks / 25 for ticks in UNEVEN], abs=1e-3)


def test_av1_works_by_default_and_decord_says_what_to_do(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", "libsvtav1", frames=10, options={"svtav1-params": "lp=1"})
    index = index_video(str(path), "a.mp4", LIMITS)
    truth = np.asarray(Image.fromarray(every_frame(path)[4]).resize((TILE, TILE)))
    np.testing.assert_array_equal(tiles(path, index, [4], "av")[0], truth)
    with pytest.raises(BadFile, match=r"^a\.mp4: decord cannot decode .*--decoder av"):
        tiles(path, index, [4], "decord")


def test_frames_that_an_edit_list_hides_are_not_shown() -> None:
    head = replace(HEAD, closed=False)
    pts, marks = np.array([-2, -1, 0, 1, 2]), np.array([3, 2, 0, 1, 0], np.uint8)
    index = VideoIndex(head, pts, marks)
    assert [index.time_s(at) for at in range(5)] == [0, 0, 0, 1, 2]
    assert [index.target(at).pts for at in range(5)] == [0, 0, 0, 1, 2]
    assert [index.target(at).key_pts for at in range(5)] == [-2, -2, -2, 1, 1]
    assert [index.target(at).index for at in range(5)] == [0, 0, 0, 1, 2]


def test_frames_whose_rows_decord_misreads_are_refused(tmp_path: Path) -> None:
    path = turned(video(tmp_path / "flat.mp4"), tmp_path / "x.mp4")
    index = index_video(str(path), "x", LIMITS)
    with pytest.raises(BadFile, match="decord cannot decode"):
        tiles(path, index, [0], "decord")


def test_previews_show_the_frames_in_their_own_proportions(tmp_path: Path) -> None:
    path = make(tmp_path, "turned by a quarter")
    index = index_video(str(path), "x", LIMITS)
    film = cut_frames(str(path), "x", index, [0, 9], TILE, "av", LIMITS)
    small = [Image.open(io.BytesIO(jpeg)) for jpeg in film.previews]
    assert [image.size for image in small] == [(96, 128)] * 2
    truth = every_frame(path)[9]
    assert np.abs(np.asarray(small[1], int) - truth).mean() < 8


def test_a_video_of_8192_by_4320_is_decoded_one_frame_at_a_time(tmp_path: Path) -> None:
    path = video(tmp_path / "x.mp4", size=(8192, 4320), frames=2, options={"preset": "ultrafast"})
    index = index_video(str(path), "x", LIMITS)
    assert (index.head.width, index.head.height) == (8192, 4320)
    assert tiles(path, index, [0, 1], "av").shape == (2, TILE, TILE, 3)


def test_a_ten_hour_video_is_reached_by_key_frames(tmp_path: Path) -> None:
    path = video(
        tmp_path / "x.mp4",
        frames=3600,
        size=(16, 16),
        times=[at * 250 for at in range(3600)],
        options={"preset": "ultrafast", "g": "50"},
    )
    index = index_video(str(path), "x", LIMITS)
    assert index.time_s(3599) == pytest.approx(35_990)
    found = tiles(path, index, [1799, 3599], "av")
    frames = every_frame(path)
    truth = [np.asarray(Image.fromarray(frames[at]).resize((TILE, TILE))) for at in (1799, 3599)]
    np.testing.assert_array_equal(found, truth)


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    assert "no moving pictures" in refused(sound(tmp_path / "x.mp4"))


@pytest.mark.parametrize(("moov_first", "share"), [(False, 0.5), (True, 0.6)])
def test_a_cut_mp4_is_refused(tmp_path: Path, moov_first: bool, share: float) -> None:
    options = {"movflags": "+faststart"} if moov_first else {}
    whole = remuxed(make(tmp_path, "h264 with b-frames"), tmp_path / "y.mp4", options)
    content = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: int(len(content) * share)])
    assert "cut off" in refused(tmp_path / "cut.mp4")


def test_a_cut_matroska_file_shows_what_is_there_and_says_so(tmp_path: Path) -> None:
    content = video(tmp_path / "x.mkv", frames=100).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) // 2])
    notice = index_video(str(tmp_path / "cut.mkv"), "x", LIMITS).notice
    assert notice.startswith("cut off") and notice.endswith("of 4.0 s")
    assert index_video(str(tmp_path / "x.mkv"), "x", LIMITS).notice == ""


def test_a_video_with_flipped_bits_is_refused_or_read_but_never_breaks(tmp_path: Path) -> None:
    content = make(tmp_path, "h264 with b-frames").read_bytes()
    random = np.random.default_rng(3)
    for _ in range(4):
        damaged = bytearray(content)
        for at in random.integers(40, len(content), 12).tolist():
            damaged[at] ^= 1 << int(random.integers(8))
        (tmp_path / "bad.mp4").write_bytes(damaged)
        try:
            index = index_video(str(tmp_path / "bad.mp4"), "bad", LIMITS)
            assert tiles(tmp_path / "bad.mp4", index, [0, len(index.pts) - 1], "av").any()
        except BadFile as error:
            assert error.advice


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(video_bytes=1000), "larger than"),
        (Limits(video_frames=10), "too many frames"),
        (Limits(child_s=0.0), "longer than 0 s"),
        (Limits(child_bytes=64 << 20), "memory"),
    ],
)
def test_what_costs_too_much_is_refused(tmp_path: Path, limits: Limits, words: str) -> None:
    assert words in refused(make(tmp_path, "h264 with b-frames"), limits)


def test_frames_that_are_too_large_are_refused_before_any_is_decoded(tmp_path: Path) -> None:
    path = make(tmp_path, "h264 with b-frames")
    with pytest.raises(BadFile, match="too large"):
        index_video(str(path), "x", Limits(video_pixels=1000))


def test_a_picture_is_no_video_whatever_it_is_called(tmp_path: Path) -> None:
    picture().save(tmp_path / "x.mp4", "GIF")
    assert "not a video" in refused(tmp_path / "x.mp4")


def told(change: Callable[[Tag, bytes], list[tuple[Tag, bytes]]]) -> Asked:
    """A child of which each message arrives as `change` has it."""

    def asked(ask: Ask, most_bytes: int, timeout_s: float, stopped: StopSign) -> list[Message]:
        messages = visit(ask, most_bytes, timeout_s, stopped)
        return [changed for message in messages for changed in change(*message)]

    return asked


@pytest.mark.parametrize(
    "change",
    [
        lambda tag, payload: [(tag, payload[:-8] if tag is Tag.PTS else payload)],
        lambda tag, payload: [(tag, payload[:-1] if tag is Tag.MARKS else payload)],
        lambda tag, payload: [(tag, bytes(len(payload)) if tag is Tag.PTS else payload)],
        lambda tag, payload: [(tag, b"" if tag in (Tag.PTS, Tag.MARKS) else payload)],
        lambda tag, payload: [(tag, payload.replace(b'"width": 64', b'"width": 0'))],
        lambda tag, payload: [(tag, payload.replace(b'"width"', b'"wide"'))],
        lambda tag, payload: [] if tag is Tag.HEAD else [(tag, payload)],
    ],
)
def test_an_index_that_contradicts_itself_is_not_believed(tmp_path: Path, change: Any) -> None:
    path = str(video(tmp_path / "x.mp4"))
    assert index_video(path, "x", LIMITS, asked=told(lambda *message: [message]))
    with pytest.raises(BadFile, match="^x: the decoder gave up"):
        index_video(path, "x", LIMITS, asked=told(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda tag, payload: [] if tag is Tag.TILE else [(tag, payload)],
        lambda tag, payload: [(tag, payload)] * (2 if tag is Tag.PREVIEW else 1),
        lambda tag, payload: [(tag, payload[:-3] if tag is Tag.TILE else payload)],
        lambda tag, payload: [(tag, b"<svg>" if tag is Tag.PREVIEW else payload)],
    ],
)
def test_frames_that_are_not_what_was_asked_for_are_not_shown(tmp_path: Path, change: Any) -> None:
    path = str(video(tmp_path / "x.mp4"))
    index = index_video(path, "x", LIMITS)
    with pytest.raises(BadFile, match="^x: the decoder gave up"):
        cut_frames(path, "x", index, [0], TILE, "av", LIMITS, asked=told(change))
