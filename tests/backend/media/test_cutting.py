"""A picture cut while its rows still come is cut as one that is all there; fast is nearly so."""

import gc
import io
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin

from backend.conversation import Attachment
from backend.errors import BadFile
from backend.media.cutting import FEW_PIXELS, Choices, Cutting
from backend.media.early import EarlyRows
from backend.media.images import ORIENTATION, open_image
from backend.media.limits import Limits
from backend.media.reader import CORES, ImageLook, MediaReader
from backend.media.recognise import attach
from backend.media.resize import STRIP_ROWS
from backend.media.tiles import choose_grid, cut_tiles
from benchmarks.material import draw_scene

SIZE = (1500, 1100)
WIDE_GAMUT = b"\0" * 128  # a profile that says nothing anyone can read
SAVED: dict[str, Callable[[Image.Image, Path], None]] = {
    "baseline": lambda image, path: image.save(path, "JPEG"),
    "progressive": lambda image, path: image.save(path, "JPEG", progressive=True),
    "full colour": lambda image, path: image.save(path, "JPEG", subsampling=0),
    "sRGB": lambda image, path: image.save(path, "JPEG", icc_profile=srgb()),
    "unreadable profile": lambda image, path: image.save(path, "JPEG", icc_profile=WIDE_GAMUT),
    "black": lambda image, path: Image.new("RGB", SIZE).save(path, "JPEG"),
    "black below": lambda image, path: blackened(image, 600, 1100).save(path, "JPEG"),
    "black between": lambda image, path: blackened(image, 200, 900).save(path, "JPEG"),
    "grey": lambda image, path: image.convert("L").save(path, "JPEG"),
    "inks": lambda image, path: image.convert("CMYK").save(path, "JPEG"),
    "turned": lambda image, path: image.save(path, "JPEG", exif=turn(6)),
    "upside down": lambda image, path: image.save(path, "JPEG", exif=turn(3)),
    "PNG": lambda image, path: image.save(path, "PNG", compress_level=1),
}


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def blackened(image: Image.Image, top: int, below: int) -> Image.Image:
    dark = image.copy()
    dark.paste((0, 0, 0), (0, top, image.width, below))
    return dark


def turn(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    assert SIZE[0] * SIZE[1] > FEW_PIXELS and SIZE[1] > 2 * STRIP_ROWS
    return draw_scene(*SIZE, seed=5)


@pytest.fixture
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def cut(path: Path, pool: Executor | None, fast: bool = False) -> NDArray[np.uint8]:
    cutting = Cutting(Choices(12, 112, thumbnail=True, fast=fast), pool)
    picture = open_image(str(path), "x", Limits(), cutting.begin)
    tiles = cutting.finish(picture.image)
    if not fast:
        assert cutting.size == picture.image.size
    return tiles


@pytest.mark.parametrize("kind", SAVED)
def test_a_picture_cut_while_it_comes_is_the_same(
    tmp_path: Path, scene: Image.Image, pool: Executor, kind: str
) -> None:
    SAVED[kind](scene, tmp_path / "x")
    whole = open_image(str(tmp_path / "x"), "x", Limits()).image
    expected = cut_tiles(whole, 12, 112, thumbnail=True)
    np.testing.assert_array_equal(cut(tmp_path / "x", pool), expected)
    np.testing.assert_array_equal(cut(tmp_path / "x", None), expected)


@pytest.mark.parametrize(("progressive", "early"), [(False, True), (True, False)])
def test_strips_come_in_order_and_before_the_end_where_they_can(
    scene: Image.Image, progressive: bool, early: bool
) -> None:
    file = io.BytesIO()
    scene.save(file, "JPEG", quality=95, progressive=progressive)
    file.seek(0)
    image, strips = JpegImagePlugin.JpegImageFile(file), []
    rows = EarlyRows(image, strips.append)
    image.load()
    assert bool(strips) is early
    rows.finish(image)
    joined = np.concatenate([np.asarray(strip) for strip in strips])
    np.testing.assert_array_equal(joined, np.asarray(image))


def test_a_picture_that_ends_too_soon_is_refused(
    tmp_path: Path, scene: Image.Image, pool: Executor
) -> None:
    scene.save(tmp_path / "x", "JPEG", quality=95)
    content = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(content[: len(content) // 2])
    with pytest.raises(BadFile, match="cut off"):
        cut(tmp_path / "x", pool)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_memory_of_a_picture_goes_with_it(
    tmp_path: Path, scene: Image.Image, pool: Executor, share: float
) -> None:
    scene.save(tmp_path / "x", "JPEG", quality=95)
    content = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(content[: int(len(content) * share)])
    opened: list[weakref.ref[Image.Image]] = []

    def begin(cutting: Cutting, image: ImageFile.ImageFile) -> None:
        opened.append(weakref.ref(image))
        cutting.begin(image)

    def cut_and_forget() -> None:
        cutting = Cutting(Choices(12, 112, thumbnail=True), pool)
        with suppress(BadFile):
            picture = open_image(
                str(tmp_path / "x"), "x", Limits(), lambda image: begin(cutting, image)
            )
            cutting.finish(picture.image)

    gc.disable()
    try:
        cut_and_forget()
        assert opened[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["baseline", "progressive", "turned", "grey", "PNG"])
def test_fast_is_nearly_exact(
    tmp_path: Path, scene: Image.Image, pool: Executor, kind: str
) -> None:
    SAVED[kind](scene, tmp_path / "x")
    exact, fast = (cut(tmp_path / "x", pool, fast).astype(int) for fast in (False, True))
    difference = np.abs(fast - exact)
    assert 0 < difference.mean() < 2 and difference.max() <= 40
    np.testing.assert_array_equal(cut(tmp_path / "x", None, fast=True), fast)


def test_fast_leaves_small_pictures_exact(tmp_path: Path, scene: Image.Image) -> None:
    scene.resize((600, 440)).save(tmp_path / "x", "JPEG")
    np.testing.assert_array_equal(
        cut(tmp_path / "x", None, fast=True), cut(tmp_path / "x", None, fast=False)
    )


@pytest.mark.parametrize("orientation", [1, 6])
def test_fast_tells_the_true_size_and_cuts_the_same_grid(
    tmp_path: Path, scene: Image.Image, orientation: int
) -> None:
    scene.save(tmp_path / "x", "JPEG", exif=turn(orientation))
    file: Attachment = attach(str(tmp_path / "x"))
    exact, fast = (MediaReader(112, 12, True, fast=fast).look(file) for fast in (False, True))
    assert exact == fast and isinstance(fast, ImageLook)
    assert (fast.width, fast.height) == (SIZE if orientation == 1 else SIZE[::-1])
    assert (fast.columns, fast.rows) == choose_grid(fast.width, fast.height, 12, 112)


def test_pictures_are_decoded_at_the_same_time(tmp_path: Path, scene: Image.Image) -> None:
    scene.save(tmp_path / "x", "JPEG")
    together = threading.Barrier(3)

    def open_one(_: int) -> NDArray[np.uint8]:
        picture = open_image(str(tmp_path / "x"), "x", Limits(), lambda image: meet(together))
        return np.asarray(picture.image)

    with ThreadPoolExecutor(3) as threads:
        first, *others = threads.map(open_one, range(3))
    for other in others:
        np.testing.assert_array_equal(other, first)


def meet(barrier: threading.Barrier) -> None:
    """Wait until all are here; a reader that lets one in at a time would wait in vain."""
    barrier.wait(30)


@pytest.mark.parametrize(("load", "shared"), [(0.0, True), (1000.0, False)])
def test_several_files_share_one_small_pool_unless_the_cores_are_busy(
    tmp_path: Path,
    scene: Image.Image,
    monkeypatch: pytest.MonkeyPatch,
    load: float,
    shared: bool,
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    media, files, truth = MediaReader(112, 12, True), [], []
    before = set(threading.enumerate())
    for number, kind in enumerate(("baseline", "progressive", "PNG", "turned", "black below")):
        path = tmp_path / f"{number}"
        SAVED[kind](scene.rotate(90 * number), path)
        files.append(attach(str(path)))
        truth.append(cut(path, None))
    with ThreadPoolExecutor(5) as threads:
        for tiles, expected in zip(threads.map(media.tiles, files * 2), truth * 2, strict=True):
            np.testing.assert_array_equal(tiles, expected)
    new = [thread.name for thread in set(threading.enumerate()) - before]
    resizing = sum(name.startswith("resize") for name in new)
    assert resizing <= CORES and (resizing > 0) is (shared and CORES > 1)
