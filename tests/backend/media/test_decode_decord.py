"""What decord is not there for, or would read wrongly, is told instead of shown."""

import sys
from dataclasses import replace
from pathlib import Path

import av
import pytest

from backend.media.decode_av import open_video
from backend.media.decode_decord import frames_of
from backend.media.wire import Failed, Fault, Target
from tests.backend.media.corpus import remuxed, video
from tests.backend.media.test_decode_av import ANY

FIRST = replace(ANY, targets=(Target(0, 0, 0),))


def fault_of(path: Path, ordered: bool = True) -> Fault:
    ask = replace(FIRST, path=str(path), ordered=ordered)
    with pytest.raises(Failed) as caught, open_video(ask) as opened:
        list(frames_of(opened, ask))
    return caught.value.fault


def test_decord_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    assert fault_of(video(tmp_path / "x.mp4")) is Fault.NO_DECORD


def test_frames_without_times_are_foreign_to_decord(tmp_path: Path) -> None:
    assert fault_of(video(tmp_path / "x.mp4"), ordered=False) is Fault.FOREIGN


def test_broadcast_streams_are_foreign_to_decord(tmp_path: Path) -> None:
    path = remuxed(video(tmp_path / "x.mp4"), tmp_path / "x.ts", {})
    with av.open(str(path)) as container:
        assert container.format.name == "mpegts"
    assert fault_of(path) is Fault.FOREIGN
