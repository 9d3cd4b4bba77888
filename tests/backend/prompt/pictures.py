"""Pictures and videos that are not there: composing needs to know their sizes only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from backend.checkpoint.facts import read_facts
from backend.checkpoint.tokenizer import read_tokens
from backend.conversation import Attachment, Kind
from backend.prompt.compose import Composer
from tests.backend.checkpoint.folders import ORIGINAL


@dataclass(frozen=True)
class FakeLook:
    blocks: tuple[int, ...]


class FakeMedia:
    """The face of `MediaReader` that composing uses.

    The path of a file is a number: tiles that the image would like, or frames that the video has.
    """

    def __init__(self, max_tiles: int = 12, frames: int = 8) -> None:
        self.max_tiles = max_tiles
        self.frames = frames
        self.looked: list[Attachment] = []

    def look(self, file: Attachment, stopped: Callable[[], bool] = bool) -> FakeLook:
        self.looked.append(file)
        if stopped():
            raise InterruptedError
        if file.kind is Kind.VIDEO:
            return FakeLook((1,) * min(int(file.path), file.frames or self.frames))
        tiles = min(int(file.path), file.max_tiles or self.max_tiles)
        return FakeLook((tiles if tiles == 1 else tiles + 1,))


def image(tiles: int, name: str = "a.png", **choices: Any) -> Attachment:
    return Attachment(str(tiles), Kind.IMAGE, name, **choices)


def video(length: int, name: str = "a.mp4", **choices: Any) -> Attachment:
    return Attachment(str(length), Kind.VIDEO, name, **choices)


def composer_of(folder: Path = ORIGINAL, media: FakeMedia | None = None) -> Composer:
    return Composer(read_facts(folder), read_tokens(folder), cast(Any, media or FakeMedia()))
