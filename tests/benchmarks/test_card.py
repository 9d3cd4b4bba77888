"""The rival does what the model card's code did, and what we do, so that ratios mean something."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import card, streamer, tiling, video
from benchmarks.material import make_photograph, make_video

GOLDEN = Path(__file__).parent.parent / "golden"
TILES = json.loads((GOLDEN / "tiles.json").read_text(encoding="utf-8"))
PIXELS = json.loads((GOLDEN / "pixels.json").read_text(encoding="utf-8"))
SMALL = 32  # px, side of a tile


def test_its_grids_are_those_that_the_card_gave() -> None:
    for case in TILES:
        grid = card.closest_grid(case["width"], case["height"], case["max_tiles"], card.TILE)
        assert grid == (case["columns"], case["rows"])


def test_its_pixels_are_those_that_the_card_gave(tmp_path: Path) -> None:
    for number, case in enumerate(PIXELS["cases"]):
        x, y = np.meshgrid(np.arange(case["width"]), np.arange(case["height"]))
        planes = (7 * x + 3 * y, x * x // 5 + y, x + y * y // 7)
        path = tmp_path / f"{number}.png"
        Image.fromarray((np.stack(planes, axis=-1) % 256).astype(np.uint8)).save(path)
        pixels = card.load_image(path, max_tiles=case["max_tiles"])
        assert pixels.shape[0] == case["tiles"]
        for sample in case["samples"]:
            seen = pixels[sample["tile"], :, sample["y"], sample["x"]]
            assert seen.tolist() == pytest.approx(sample["rgb"], abs=1e-5)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (300, 900), (97, 31), (64, 64)])
def test_tiles_of_a_photograph_equal_ours(tmp_path: Path, width: int, height: int) -> None:
    path = make_photograph(tmp_path / "photograph.jpg", width, height)
    assert tiling.difference(path, SMALL, max_tiles=6) <= tiling.EXACT


def test_a_difference_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_photograph(tmp_path / "photograph.jpg", 320, 240)
    whole = card.transform

    def shifted(part: Image.Image) -> torch.Tensor:
        return whole(part) + 0.01

    monkeypatch.setattr(card, "transform", shifted)
    assert tiling.difference(path, SMALL, max_tiles=6) > tiling.EXACT
    assert not tiling.report_difference("photograph", path).goal.holds  # type: ignore[union-attr]


def test_frames_of_a_video_equal_ours(tmp_path: Path) -> None:
    path = make_video(tmp_path / "film.mp4", 160, 96, seconds=3)
    assert video.difference(path, 8, SMALL) <= video.EXACT


def test_the_two_streamers_give_the_same_text() -> None:
    work = streamer.Work()
    ids = work.ids(100)
    work.require_equal(ids)
    assert work.ours(ids).startswith(streamer.WORDS)
