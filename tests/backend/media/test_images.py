"""Images come out as a person sees them, or are refused with a cause and a remedy."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image, ImageCms
from pillow_heif import from_pillow

from backend.errors import BadFile
from backend.media.images import READERS, open_image
from backend.media.limits import Limits
from tests.backend.media.corpus import bomb, picture, png, png_chunk

ORIENTATION = 0x0112


def saved(path: Path, image: Image.Image, format: str, **options: object) -> Path:
    image.save(path, format, **options)  # type: ignore[arg-type]
    return path


def seen(path: Path) -> Image.Image:
    image = open_image(str(path), "photo", Limits()).image
    assert image.mode == "RGB"
    return image


def difference(image: Image.Image, expected: Image.Image) -> float:
    """Mean absolute error, 0…255."""
    assert image.size == expected.size
    return float(np.abs(np.asarray(image, np.int16) - np.asarray(expected, np.int16)).mean())


def refused(path: Path, limits: Limits = Limits()) -> str:  # noqa: B008
    with pytest.raises(BadFile) as caught:
        open_image(str(path), "photo.png", limits)
    message = str(caught.value)
    assert message.startswith("photo.png: ")
    assert caught.value.advice
    assert str(path.parent) not in message
    return message


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("GIF", {}),
        ("JPEG", {"quality": 98, "subsampling": 0}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 98, "subsampling": "4:4:4"}),
    ],
)
def test_every_format_opens_whatever_the_file_is_called(
    tmp_path: Path, format: str, options: dict[str, object]
) -> None:
    assert difference(seen(saved(tmp_path / "x.txt", picture(), format, **options)), picture()) < 2


def test_a_photo_of_an_iphone_opens(tmp_path: Path) -> None:
    heif = from_pillow(picture())
    heif.save(tmp_path / "photo.jpg", quality=95, chroma=444)
    assert difference(seen(tmp_path / "photo.jpg"), picture()) < 3
    with pytest.raises(Image.UnidentifiedImageError):  # nobody else's Pillow was changed by us
        Image.open(tmp_path / "photo.jpg")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 99])
def test_photos_stand_upright(tmp_path: Path, format: str, orientation: int) -> None:
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture(80, 48)
    if orientation in inverse:
        stored = stored.transpose(inverse[orientation])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = saved(tmp_path / "photo", stored, format, exif=exif)
    assert difference(seen(path), picture(80, 48)) < 4


def test_transparency_shows_white(tmp_path: Path) -> None:
    clear = picture().convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 32, 48))
    expected = picture()
    expected.paste((255, 255, 255), (0, 0, 32, 48))
    for format in ("PNG", "WEBP", "TIFF"):
        path = saved(
            tmp_path / format, clear, format, **({"lossless": True} if format == "WEBP" else {})
        )
        assert difference(seen(path), expected) < 1, format


def test_half_transparent_grey_is_mixed_with_white(tmp_path: Path) -> None:
    path = saved(tmp_path / "la", Image.new("LA", (8, 8), (100, 128)), "PNG")
    assert abs(seen(path).getpixel((4, 4))[0] - 177) <= 1  # type: ignore[index]


def test_a_palette_with_a_transparent_colour_shows_white_there(tmp_path: Path) -> None:
    image = picture().quantize(4)
    index = image.getpixel((2, 40))
    path = saved(tmp_path / "p", image, "PNG", transparency=index)
    assert seen(path).getpixel((2, 40)) == (255, 255, 255)
    assert seen(path).getpixel((60, 40)) != (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (8, 1))
    for format in ("PNG", "TIFF"):
        path = saved(tmp_path / format, Image.fromarray(ramp), format)
        grey = np.asarray(seen(path))[0, :, 0].astype(int)
        assert np.abs(grey - np.arange(256)).max() <= 1, format


def test_a_transparent_colour_in_sixteen_bit_grey_shows_white(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + struct.pack(">4H", 0, 1000, 40000, 1000) for _ in range(2))
    clear = png_chunk(b"tRNS", struct.pack(">H", 1000))
    (tmp_path / "x").write_bytes(png(4, 2, 16, 0, rows, clear))
    assert np.asarray(seen(tmp_path / "x"))[0, :, 0].tolist() == [0, 255, 156, 255]


def test_a_transparent_colour_in_sixteen_bit_rgb_shows_white(tmp_path: Path) -> None:
    pixels = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0)
    clear = png_chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))
    (tmp_path / "x").write_bytes(png(2, 1, 16, 2, b"\0" + pixels, clear))
    assert np.asarray(seen(tmp_path / "x"))[0].tolist() == [[255, 255, 255], [255, 0, 0]]


def test_a_transparent_colour_in_four_bit_grey_shows_white(tmp_path: Path) -> None:
    clear = png_chunk(b"tRNS", struct.pack(">H", 3))
    (tmp_path / "x").write_bytes(png(2, 1, 4, 0, b"\0\x35", clear))
    assert np.asarray(seen(tmp_path / "x"))[0, :, 0].tolist() == [255, 85]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes_look_like_themselves(tmp_path: Path, mode: str) -> None:
    image = picture().convert(mode)
    path = saved(tmp_path / "x", image, "TIFF")
    assert difference(seen(path), image.convert("RGB")) < 2


def test_floating_point_pixels_are_shown_when_they_are_brightness(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (4, 1))
    path = saved(tmp_path / "f", Image.fromarray(ramp), "TIFF")
    assert np.abs(np.asarray(seen(path))[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("value", [-1.0, 300.0, float("nan")])
def test_floating_point_pixels_are_refused_when_they_are_something_else(
    tmp_path: Path, value: float
) -> None:
    path = saved(tmp_path / "f", Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF")
    assert "brightness is not defined" in refused(path)


def test_thirty_two_bit_numbers_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "i", Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF")
    assert "brightness is not defined" in refused(path)


def test_the_file_s_own_colour_profile_is_followed(tmp_path: Path) -> None:
    lab = ImageCms.profileToProfile(
        picture(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert difference(seen(saved(tmp_path / "lab", lab, "TIFF")), picture()) < 3


def test_an_srgb_profile_and_a_broken_one_leave_pixels_alone(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile at all"):
        path = saved(tmp_path / "x", picture(), "PNG", icc_profile=profile)
        assert difference(seen(path), picture()) == 0


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_pictures_the_first_is_used_and_that_is_said(
    tmp_path: Path, format: str
) -> None:
    others = [Image.new("RGB", (64, 48), colour) for colour in ("black", "white")]
    path = saved(tmp_path / "x", picture(), format, save_all=True, append_images=others)
    found = open_image(str(path), "x", Limits())
    assert difference(found.image, picture()) < 4
    assert "only the first" in found.notice


def test_one_picture_has_no_notice(tmp_path: Path) -> None:
    assert open_image(str(saved(tmp_path / "x", picture(), "GIF")), "x", Limits()).notice == ""


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (2, 2)])
def test_tiny_and_narrow_images_open(tmp_path: Path, size: tuple[int, int]) -> None:
    assert seen(saved(tmp_path / "x", Image.new("RGB", size, "red"), "PNG")).size == size


@pytest.mark.parametrize(("width", "height"), [(13_000, 13_000), (9_000, 9_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_from_its_header(
    tmp_path: Path, width: int, height: int
) -> None:
    content = bomb(width, height) if width < 60_000 else png(width, height, 8, 2, b"")
    assert len(content) < 60_000
    (tmp_path / "x").write_bytes(content)
    tracemalloc.start()
    message = refused(tmp_path / "x")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"{width:,} × {height:,}" in message
    assert "Make it smaller" in message
    assert peak < 5_000_000


def test_a_very_long_side_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bomb(70_000, 1))
    assert "65,535 a side" in refused(tmp_path / "x")


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x", picture(), "PNG")
    assert "larger than" in refused(path, Limits(image_bytes=100))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_a_cut_image_is_refused(tmp_path: Path, format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, format)
    (tmp_path / "x").write_bytes(whole.getvalue()[: len(whole.getvalue()) * 6 // 10])
    assert "damaged or cut off" in refused(tmp_path / "x")


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path / "x", picture(), "PNG").read_bytes())
    content[content.index(b"IDAT") - 5 - 4] ^= 1
    (tmp_path / "x").write_bytes(content)
    assert "damaged" in refused(tmp_path / "x")


def test_an_image_that_memory_cannot_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(file: BinaryIO) -> None:
        raise MemoryError

    monkeypatch.setitem(READERS, "PNG", read)
    assert "no memory for this image" in refused(saved(tmp_path / "x", picture(), "PNG"))


def test_a_bomb_in_a_comment_is_refused(tmp_path: Path) -> None:
    comment = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000), 9))
    (tmp_path / "x").write_bytes(png(1, 1, 8, 0, b"\0\0", comment))
    assert "damaged" in refused(tmp_path / "x")


def test_exif_that_makes_pillow_warn_does_not_disturb(tmp_path: Path) -> None:
    path = saved(tmp_path / "x", picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\0broken")
    assert difference(seen(path), picture()) < 6


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_damaged_files_are_refused_or_read_but_never_break(tmp_path: Path, format: str) -> None:
    whole = io.BytesIO()
    picture(24, 18).save(whole, format)
    random = np.random.default_rng(7)
    path = tmp_path / "x"
    for _ in range(60):
        content = bytearray(whole.getvalue())
        for at in random.integers(8, len(content), 4).tolist():
            content[at] = int(random.integers(256))
        path.write_bytes(content)
        try:
            assert open_image(str(path), "x", Limits()).image.mode == "RGB"
        except BadFile as error:
            assert error.advice
