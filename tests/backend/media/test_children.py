"""Children are started ahead, stay with one video, and never outlive those who asked for them."""

import gc
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from backend.errors import BadFile
from backend.media import children as nursery
from backend.media.children import Children
from backend.media.limits import Limits
from backend.media.stopping import Stopped, never
from backend.media.video import cut_frames, index_video
from backend.media.visit import Child
from tests.backend.media.corpus import video
from tests.backend.media.test_visit import wait_until_gone

LIMITS = Limits()


@pytest.fixture
def born(monkeypatch: pytest.MonkeyPatch) -> list[Child]:
    """The children that were started since."""
    started: list[Child] = []

    def start() -> Child:
        started.append(Child())
        return started[-1]

    monkeypatch.setattr(nursery, "Child", start)
    return started


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return video(tmp_path / "clip.mp4", frames=20, options={"g": "5"})


def watch(children: Children, path: Path, stopped: Callable[[], bool] = never) -> np.ndarray:
    index = index_video(str(path), "x", LIMITS, stopped, children.visit)
    film = cut_frames(str(path), "x", index, [2, 9], 56, "av", LIMITS, stopped, children.visit)
    return film.tiles


def test_a_video_takes_the_child_that_waits_and_another_waits_then(
    clip: Path, born: list[Child]
) -> None:
    children = Children()
    children.prepare()
    children.prepare()
    assert len(born) == 1
    first = watch(children, clip)
    assert len(born) == 2
    assert not born[0].alive and born[1].alive
    alone = index_video(str(clip), "x", LIMITS)
    truth = cut_frames(str(clip), "x", alone, [2, 9], 56, "av", LIMITS).tiles
    np.testing.assert_array_equal(first, truth)


def test_no_child_sees_two_videos(clip: Path, tmp_path: Path, born: list[Child]) -> None:
    children, other = Children(), tmp_path / "other.mp4"
    shutil.copy(clip, other)
    index_video(str(clip), "x", LIMITS, never, children.visit)
    index_video(str(other), "x", LIMITS, never, children.visit)
    assert len(born) == 2 and all(child.alive for child in born)


def test_a_video_that_was_replaced_is_not_read_from_the_former_one(
    clip: Path, born: list[Child]
) -> None:
    children = Children()
    index = index_video(str(clip), "x", LIMITS, never, children.visit)
    video(clip, frames=20, size=(80, 64))
    film = cut_frames(str(clip), "x", index, [2], 56, "av", LIMITS, never, children.visit)
    alone = index_video(str(clip), "x", LIMITS)
    truth = cut_frames(str(clip), "x", alone, [2], 56, "av", LIMITS).tiles
    np.testing.assert_array_equal(film.tiles, truth)


def test_an_index_can_be_asked_for_twice(clip: Path) -> None:
    children = Children()
    for _ in range(2):
        assert len(index_video(str(clip), "x", LIMITS, never, children.visit).pts) == 20


def test_a_child_that_died_while_it_waited_is_not_asked(clip: Path, born: list[Child]) -> None:
    children = Children()
    children.prepare()
    born[0].process.kill()
    born[0].process.wait()
    assert watch(children, clip).any()


def test_a_child_that_nobody_comes_back_to_is_ended(
    clip: Path, born: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    children = Children()
    index_video(str(clip), "x", LIMITS, never, children.visit)
    monkeypatch.setattr(nursery, "STALE_S", -1.0)
    children.prepare()
    assert [child.alive for child in born] == [False, True]


def test_only_so_many_children_wait(tmp_path: Path, clip: Path, born: list[Child]) -> None:
    children = Children()
    for number in range(nursery.MOST_WAITING + 2):
        copy = tmp_path / f"{number}.mp4"
        shutil.copy(clip, copy)
        index_video(str(copy), "x", LIMITS, never, children.visit)
    assert sum(child.alive for child in born) == nursery.MOST_WAITING


def test_a_visit_that_is_given_up_leaves_no_child_behind(clip: Path, born: list[Child]) -> None:
    children = Children()
    with pytest.raises(Stopped):
        watch(children, clip, stopped=lambda: True)
    assert not born[0].alive
    assert watch(children, clip).any()


def test_a_refused_video_leaves_no_child_behind(clip: Path, born: list[Child]) -> None:
    children = Children()
    clip.write_bytes(clip.read_bytes()[:2000])
    with pytest.raises(BadFile):
        watch(children, clip)
    assert not born[0].alive


def test_several_videos_are_decoded_at_a_time(tmp_path: Path, clip: Path) -> None:
    children, truth, together = Children(), watch(Children(), clip), threading.Barrier(3)

    def watch_copy(number: int) -> np.ndarray:
        copy = tmp_path / f"{number}.mp4"
        shutil.copy(clip, copy)
        index = index_video(str(copy), "x", LIMITS, never, children.visit)
        together.wait(60)  # each has a child of its own at this point
        film = cut_frames(str(copy), "x", index, [2, 9], 56, "av", LIMITS, never, children.visit)
        return film.tiles

    with ThreadPoolExecutor(3) as pool:
        for tiles in pool.map(watch_copy, range(3)):
            np.testing.assert_array_equal(tiles, truth)


def test_children_end_with_those_who_asked_for_them(clip: Path, born: list[Child]) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    children = Children()
    children.prepare()
    watch(children, clip)
    index_video(str(clip), "x", LIMITS, never, children.visit)
    pids = [child.process.pid for child in born]
    del children
    gc.collect()
    for pid in pids:
        wait_until_gone(pid)
    assert len(os.listdir("/proc/self/fd")) == before
