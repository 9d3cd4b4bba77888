"""Files are told apart by their content; what is neither image nor video says what it is."""

import os
from pathlib import Path

import pytest

from backend.conversation import Kind
from backend.errors import BadFile, BadSetting
from backend.media.recognise import attach
from tests.backend.media.corpus import picture

ISO = b"\0\0\0\x18ftyp%b\0\0\0\0isom%b"
NAMES = ["..", "a\nb.png", "<img onerror=x>.png", "🦊.png", "\u202egnp.exe", "<IMG_CONTEXT>.png"]


def refused(path: Path, name: str = "named by me.png") -> str:
    with pytest.raises(BadFile) as caught:
        attach(str(path), name)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert caught.value.advice
    assert str(path) not in message
    return message


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", Kind.IMAGE),
        (b"GIF89a", Kind.IMAGE),
        (b"RIFF\0\0\0\0WEBPVP8 ", Kind.IMAGE),
        (ISO % (b"heic", b"mif1"), Kind.IMAGE),
        (ISO % (b"mif1", b"avif"), Kind.IMAGE),
        (ISO % (b"isom", b"mp42"), Kind.VIDEO),
        (ISO % (b"qt  ", b"qt  "), Kind.VIDEO),
        (b"\0\0\0\x08wide\0\0\0\0mdat", Kind.VIDEO),
        (b"\x1a\x45\xdf\xa3\x93\x42", Kind.VIDEO),
        (b"RIFF\0\0\0\0AVI LIST", Kind.VIDEO),
        ((b"\x47" + bytes(187)) * 4, Kind.VIDEO),
        ((bytes(4) + b"\x47" + bytes(187)) * 4, Kind.VIDEO),
    ],
)
def test_kinds_are_told_by_the_first_bytes(tmp_path: Path, head: bytes, kind: Kind) -> None:
    (tmp_path / "x.txt").write_bytes(head)
    assert attach(str(tmp_path / "x.txt")).kind is kind


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, I am a picture", "text"),
        (b"\xff\xfeh\0i\0", "text"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "SVG drawing"),
        (b"\xef\xbb\xbf <!DOCTYPE html><p>", "web page"),
        (b"#EXTM3U\nhttp://127.0.0.1:9/a.ts", "playlist"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'", "playlist"),
        (b"[playlist]\nFile1=http://127.0.0.1:9/", "playlist"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "archive"),
        (b"ID3\x04", "sound"),
        (b"\xff\xfb\x90\x64", "sound"),
        (b"RIFF\0\0\0\0WAVEfmt ", "sound"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42", "sound"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\x7fELF\x02\0\0", "unknown"),
    ],
)
def test_other_files_are_refused_by_what_they_are(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "x.png").write_bytes(content)
    assert words in refused(tmp_path / "x.png")


def test_a_file_that_has_gone_asks_to_be_added_again(tmp_path: Path) -> None:
    assert "there is no such file. Add it again" in refused(tmp_path / "gone.png")


def test_folders_pipes_and_devices_are_refused_without_opening_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "a folder" in refused(tmp_path)
    assert "a device or a pipe" in refused(tmp_path / "pipe.mp4")
    assert "a device or a pipe" in refused(Path("/dev/zero"))


def test_a_file_that_the_disk_does_not_give_is_refused() -> None:
    with pytest.raises(BadFile, match=r"^odd: the file cannot be read\. Add the file again"):
        attach("/proc/self/mem", "odd")  # opens, and fails to be read


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(BadFile, match=r"^odd: the file cannot be read"):
        attach("a\0b.png", "odd")


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    picture().save(tmp_path / "x", "PNG")
    assert attach(str(tmp_path / "x"), name).name == name


def test_the_name_is_the_last_part_of_the_path_unless_told(tmp_path: Path) -> None:
    picture().save(tmp_path / "x.png")
    assert attach(str(tmp_path / "x.png")).name == "x.png"


def test_choices_are_those_of_the_attachment(tmp_path: Path) -> None:
    picture().save(tmp_path / "x.png")
    assert attach(str(tmp_path / "x.png"), max_tiles=6).max_tiles == 6
    with pytest.raises(BadSetting):
        attach(str(tmp_path / "x.png"), max_tiles=0)
