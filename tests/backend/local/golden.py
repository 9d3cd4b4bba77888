"""What the official code answered: tests/golden/original, made as its expected.json says.

`InternVLChatModel.chat()` of OpenGVLab/InternVL @2410d1d on tiny random checkpoints, in float32.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.checkpoint.facts import Facts
from backend.conversation import Attachment, Kind, Turn
from backend.media.tiles import cut_tiles

FOLDER = Path(__file__).parents[2] / "golden" / "original"
NAMES = ("layernorm-448", "qknorm-112", "internlm2-112")
LABELS = re.compile(r"((Image-\d+|Frame\d+): )?<image>\n")  # what the template puts in by itself


@dataclass(frozen=True)
class RecordedTurn:
    """A question as a person asks it, and the official answer."""

    asked: Turn
    response: str
    ids: tuple[int, ...] = ()
    first_token_logits: tuple[float, ...] = ()


@dataclass(frozen=True)
class RecordedCase:
    kind: str
    turns: tuple[RecordedTurn, ...]


def recorded_cases(name: str) -> Iterator[RecordedCase]:
    for case in recorded(name)["cases"]:
        if case["kind"] == "batch":
            yield from _rows(case)
            continue
        first, *later = case["turns"]
        files = _video(case) if "video" in case["kind"] else _images(case)
        asked = [Turn(_plain(first["question"]), files, case["mode"] == "combined")]
        asked += [Turn(turn["question"]) for turn in later]
        turns = (
            RecordedTurn(
                turn, told["response"], tuple(told["ids"]), tuple(told["first_token_logits"])
            )
            for turn, told in zip(asked, case["turns"], strict=True)
        )
        yield RecordedCase(case["kind"], tuple(turns))


def recorded(name: str) -> Any:
    return json.loads((FOLDER / name / "expected.json").read_text(encoding="utf-8"))


def _rows(case: Any) -> Iterator[RecordedCase]:
    rows = zip(_images(case), case["questions"], case["responses"], strict=True)
    for number, (file, question, response) in enumerate(rows, 1):
        turn = RecordedTurn(Turn(_plain(question), (file,)), response)
        yield RecordedCase(f"row {number} of a batch", (turn,))


def _plain(question: str) -> str:
    return LABELS.sub("", question)


def _images(case: Any) -> tuple[Attachment, ...]:
    return tuple(
        Attachment(f"{i['width']},{i['height']},{i['k']}", Kind.IMAGE, "p", i["max_tiles"])
        for i in case["images"]
    )


def _video(case: Any) -> tuple[Attachment, ...]:
    frames = ";".join(f"{i['width']},{i['height']},{i['k']}" for i in case["images"])
    return (Attachment(frames, Kind.VIDEO, "v", frames=len(case["images"])),)


def draw(width: int, height: int, k: int) -> Image.Image:
    """The picture of the recording: R=(7x+3y+11k)%256, G=(x²//5+y+29k)%256, B=(x+y²//7+5k)%256."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    channels = (7 * x + 3 * y + 11 * k, x * x // 5 + y + 29 * k, x + y * y // 7 + 5 * k)
    return Image.fromarray(np.stack([c % 256 for c in channels], axis=-1).astype(np.uint8))


class DrawnMedia:
    """The face of `MediaReader` for recorded pictures: an attachment's path says what to draw."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def look(self, file: Attachment, stopped: Callable[[], bool] = bool) -> Any:
        blocks = [len(self._cut(file, size)) for size in file.path.split(";")]
        return SimpleNamespace(blocks=tuple(blocks))

    def key(self, file: Attachment, stopped: Callable[[], bool] = bool) -> bytes:
        return repr((file.path, file.kind, file.max_tiles)).encode()

    def tiles(self, file: Attachment, stopped: Callable[[], bool] = bool) -> NDArray[np.uint8]:
        return np.concatenate([self._cut(file, size) for size in file.path.split(";")])

    def _cut(self, file: Attachment, size: str) -> NDArray[np.uint8]:
        most = 1 if file.kind is Kind.VIDEO else file.max_tiles or self._facts.max_tiles
        picture = draw(*map(int, size.split(",")))
        return cut_tiles(picture, most, self._facts.tile, self._facts.thumbnail)
