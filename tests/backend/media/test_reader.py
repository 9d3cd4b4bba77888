"""The reader: looks, tiles and previews of one file cost one decoding, from any thread."""

import io
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.conversation import Attachment, Kind
from backend.errors import BadFile, BadSetting
from backend.media import reader as reading
from backend.media.limits import Limits
from backend.media.reader import ImageLook, MediaReader, VideoLook
from backend.media.recognise import attach
from backend.media.stopping import Stopped
from backend.media.tiles import cut_tiles
from tests.backend.media.corpus import every_frame, picture, video


def reader(**settings: Any) -> MediaReader:
    return MediaReader(**{"tile": 112, "max_tiles": 6, "thumbnail": True, **settings})


def image_file(folder: Path, width: int = 300, height: int = 200) -> Attachment:
    picture(width, height).save(folder / "photo.png")
    return attach(str(folder / "photo.png"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was read or decoded from now on."""
    calls: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(reading, name)

        def call(*arguments: Any) -> Any:
            calls.append(name)
            return real(*arguments)

        return call

    for name in ("open_image", "index_video", "cut_frames"):
        monkeypatch.setattr(reading, name, counted(name))
    return calls


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Attachment:
    path = video(tmp_path_factory.mktemp("clip") / "clip.mp4", size=(96, 64), frames=50)
    return attach(str(path), "clip.mp4")


def test_an_image_is_looked_at_cut_and_shown_with_one_decoding(
    tmp_path: Path, decoded: list[str]
) -> None:
    media, file = reader(), image_file(tmp_path)
    look = media.look(file)
    assert look == ImageLook(300, 200, columns=3, rows=2, tiles=7)
    assert look.blocks == (7,)
    expected = cut_tiles(picture(300, 200), 6, 112, thumbnail=True)
    np.testing.assert_array_equal(media.tiles(file), expected)
    (jpeg,) = media.previews(file)
    assert Image.open(io.BytesIO(jpeg)).size == (300, 200)
    assert decoded == ["open_image"]


def test_a_video_is_looked_at_cut_and_shown_with_one_decoding(
    clip: Attachment, decoded: list[str]
) -> None:
    media = reader(frames=4)
    look = media.look(clip)
    assert isinstance(look, VideoLook)
    assert (look.width, look.height, look.frame_count, look.fps) == (96, 64, 50, 25.0)
    assert look.duration_s == pytest.approx(2.0)
    assert [frame.index for frame in look.frames] == [6, 18, 30, 43]
    assert [frame.time_s for frame in look.frames] == pytest.approx([0.24, 0.72, 1.2, 1.72])
    assert look.blocks == (1, 1, 1, 1)
    truth = every_frame(Path(clip.path))
    for tile, jpeg, frame in zip(media.tiles(clip), media.previews(clip), look.frames, strict=True):
        image = Image.fromarray(truth[frame.index])
        np.testing.assert_array_equal(tile, np.asarray(image.resize((112, 112))))
        shown = np.asarray(Image.open(io.BytesIO(jpeg)), int)
        assert np.abs(shown - truth[frame.index]).mean() < 8
    assert decoded == ["index_video", "cut_frames"]


def test_the_choices_of_the_attachment_come_first(clip: Attachment, tmp_path: Path) -> None:
    media = reader(frames=8)
    look = media.look(replace(clip, frames=2, start_s=1.0, end_s=1.8))
    assert isinstance(look, VideoLook)
    assert [frame.index for frame in look.frames] == [30, 40]
    assert media.look(replace(image_file(tmp_path), max_tiles=1)).blocks == (1,)


def test_another_choice_of_the_same_video_reads_no_packets_again(
    clip: Attachment, decoded: list[str]
) -> None:
    media = reader()
    for frames in (2, 3, 4):
        media.look(replace(clip, frames=frames))
    assert decoded == ["index_video"]


def test_the_same_content_under_another_name_is_not_decoded_again(
    tmp_path: Path, decoded: list[str]
) -> None:
    media, file = reader(), image_file(tmp_path)
    (tmp_path / "copy.png").write_bytes(Path(file.path).read_bytes())
    media.tiles(file)
    media.tiles(attach(str(tmp_path / "copy.png")))
    assert decoded == ["open_image"]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    media, file = reader(), image_file(tmp_path)
    media.look(file)
    image_file(tmp_path, 100, 400)
    look = media.look(file)
    assert isinstance(look, ImageLook) and (look.width, look.height) == (100, 400)


def test_the_same_bytes_of_pixels_in_another_shape_are_told_apart(tmp_path: Path) -> None:
    """Caches that hash pixels alone show one person's picture for another's."""
    media, looks = reader(), []
    for size in ((40, 10), (10, 40)):
        Image.new("RGB", size, "red").save(tmp_path / f"{size}.bmp")
        looks.append(media.look(attach(str(tmp_path / f"{size}.bmp"))))
    assert [(look.width, look.height) for look in looks] == [(40, 10), (10, 40)]


def test_a_key_names_the_tiles_and_not_the_path(clip: Attachment, tmp_path: Path) -> None:
    one, other = image_file(tmp_path), tmp_path / "copy.png"
    shutil.copy(one.path, other)
    open_reader = reader()
    assert open_reader.key(one) == open_reader.key(attach(str(other)))
    unlike = [one, replace(one, max_tiles=1), clip, replace(clip, frames=3), replace(clip, end_s=1)]
    assert len({open_reader.key(file) for file in unlike}) == len(unlike)
    # 300 × 200 is cut alike with six tiles and with seven: the model need not see it twice.
    assert open_reader.key(replace(one, max_tiles=7)) == open_reader.key(one)
    picture(200, 300).save(one.path)
    assert open_reader.key(one) != open_reader.key(attach(str(other)))


def test_threads_that_ask_together_share_one_decoding(
    clip: Attachment, tmp_path: Path, decoded: list[str]
) -> None:
    media, file = reader(), image_file(tmp_path)
    with ThreadPoolExecutor(6) as pool:
        for answer in [
            pool.submit(ask, wanted)
            for wanted in (file, clip)
            for ask in (media.look, media.tiles, media.previews)
        ]:
            answer.result(60)
    assert sorted(decoded) == ["cut_frames", "index_video", "open_image"]


def test_a_small_cache_forgets_and_still_answers(tmp_path: Path, decoded: list[str]) -> None:
    media, file = reader(limits=Limits(cache_bytes=1000)), image_file(tmp_path)
    np.testing.assert_array_equal(media.tiles(file), media.tiles(file))
    assert len(decoded) > 1


def test_tiles_cannot_be_written_into(tmp_path: Path, clip: Attachment) -> None:
    media = reader()
    for file in (image_file(tmp_path), clip):
        with pytest.raises(ValueError, match="read-only"):
            media.tiles(file)[0] = 0


def test_who_gives_up_is_let_go_and_another_can_ask_again(clip: Attachment) -> None:
    media = reader()
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        media.look(clip, stop.is_set)
    assert len(media.look(clip).blocks) == 8


def test_nothing_is_decoded_for_who_gives_up_while_the_file_is_read(
    tmp_path: Path, decoded: list[str]
) -> None:
    with pytest.raises(Stopped):
        reader().tiles(image_file(tmp_path), lambda: True)
    assert not decoded


def test_an_upload_that_expired_names_the_file_to_add_again(tmp_path: Path) -> None:
    media, file = reader(), image_file(tmp_path)
    media.tiles(file)
    Path(file.path).unlink()
    with pytest.raises(BadFile, match=r"^photo\.png: there is no such file\. Add it again"):
        media.tiles(file)


def test_a_cut_image_is_refused_at_the_first_look(tmp_path: Path) -> None:
    file = image_file(tmp_path)
    content = Path(file.path).read_bytes()
    Path(file.path).write_bytes(content[: len(content) // 2])
    with pytest.raises(BadFile, match="cut off"):
        reader().look(file)


def test_a_range_outside_the_video_is_refused_by_name(clip: Attachment) -> None:
    with pytest.raises(BadSetting, match=r"^clip\.mp4: The range starts at 9 s"):
        reader().look(replace(clip, start_s=9.0))


def test_a_file_of_the_other_kind_is_refused(clip: Attachment, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="not an image"):
        reader().look(replace(clip, kind=Kind.IMAGE))
    with pytest.raises(BadFile, match="not a video"):
        reader().look(replace(image_file(tmp_path), kind=Kind.VIDEO))


def test_a_path_relative_to_the_working_folder_is_found(
    clip: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(clip.path).parent)
    assert len(reader(frames=2).tiles(attach("clip.mp4"))) == 2
