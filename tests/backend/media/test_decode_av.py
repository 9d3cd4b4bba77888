"""What only the decoding child meets: headers that promise what is not there, odd frames."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from av.video.frame import VideoFrame

from backend.media.decode_av import frames_of, index_video, open_video, pts_of, upright
from backend.media.wire import Ask, Failed, Fault, Target
from tests.backend.media.corpus import remuxed, video

ANY = Ask("", most_pixels=10_000, most_frames=1000, memory_bytes=0, cpu_s=0)


def fault_of(path: Path, ask: Ask = ANY) -> Fault:
    ask = replace(ask, path=str(path))
    with pytest.raises(Failed) as caught, open_video(ask) as opened:
        index_video(opened, ask)
        list(frames_of(opened, ask))
    return caught.value.fault


def hidden(folder: Path) -> Path:
    """A video whose only frame is decoded and never shown."""
    path = video(folder / "x.webm", "libvpx", frames=1)
    with av.open(str(path)) as container:
        packet = bytes(next(container.demux(video=0)))
    content = bytearray(path.read_bytes())
    content[content.index(packet)] &= ~0x10  # "show this frame" of VP8
    path.write_bytes(content)
    return path


def test_a_codec_that_nothing_here_knows_is_told(tmp_path: Path) -> None:
    content = video(tmp_path / "x.mp4").read_bytes()
    (tmp_path / "strange.mp4").write_bytes(content.replace(b"avc1", b"zzzz"))
    assert fault_of(tmp_path / "strange.mp4") is Fault.UNKNOWN_CODEC


def test_a_header_without_any_frame_has_no_pictures(tmp_path: Path) -> None:
    parts = {"movflags": "+frag_keyframe+empty_moov"}
    content = remuxed(video(tmp_path / "x.mp4"), tmp_path / "y.mp4", parts).read_bytes()
    (tmp_path / "header.mp4").write_bytes(content[: content.index(b"moof") - 4])
    assert fault_of(tmp_path / "header.mp4") is Fault.NO_PICTURES


def test_packets_that_give_no_frame_are_damaged(tmp_path: Path) -> None:
    assert fault_of(hidden(tmp_path)) is Fault.DAMAGED


def test_a_video_without_times_whose_frames_are_gone_is_damaged(tmp_path: Path) -> None:
    ask = replace(ANY, path=str(hidden(tmp_path)), ordered=False, targets=(Target(0, 0, 0),))
    with pytest.raises(Failed) as caught, open_video(ask) as opened:
        list(frames_of(opened, ask))
    assert caught.value.fault is Fault.DAMAGED


def test_a_frame_that_nothing_near_stands_for_is_damaged(tmp_path: Path) -> None:
    far = Target(index=5, pts=10**9, key_pts=0)
    assert fault_of(video(tmp_path / "x.mp4"), replace(ANY, targets=(far,))) is Fault.DAMAGED


def test_a_frame_larger_than_its_header_said_is_refused() -> None:
    frame = VideoFrame(200, 100, "rgb24")
    assert upright(frame, most_pixels=20_000).shape == (100, 200, 3)
    with pytest.raises(Failed) as caught:
        upright(frame, most_pixels=19_999)
    assert caught.value.fault is Fault.TOO_LARGE


def test_a_frame_that_the_decoder_calls_corrupt_is_not_shown() -> None:
    frame: Any = SimpleNamespace(is_corrupt=True)
    with pytest.raises(Failed) as caught:
        upright(frame, most_pixels=20_000)
    assert caught.value.fault is Fault.DAMAGED


def test_a_frame_without_a_time_is_damaged() -> None:
    with pytest.raises(Failed) as caught:
        pts_of(VideoFrame(8, 8, "rgb24"))
    assert caught.value.fault is Fault.DAMAGED
