"""A file as it is named on the command line, with its own choices: `clip.mp4#frames=16,from=1.5`.

Knows nothing of what is in the file; `backend.media.recognise` looks.
"""

import os
from dataclasses import replace
from pathlib import PurePath
from typing import TypeVar

from backend.conversation import Attachment, Kind
from backend.errors import BadSetting

Number = TypeVar("Number", int, float)
CHOICES = {Kind.IMAGE: ("tiles",), Kind.VIDEO: ("frames", "from", "to")}


def read_file_word(word: str, kind: Kind) -> Attachment:
    """`a.png#tiles=6` → the file and its choices; a file that really has this name goes first.

    Raises `BadSetting` for a word that names no file, and for a choice that does not exist or is
    no number in its range.
    """
    path, mark, choices = word.rpartition("#")
    if not mark or "=" not in choices or os.path.exists(word):
        return _file(word, kind)
    file = _file(path, kind)
    for choice in choices.split(","):
        file = _with_choice(file, choice)
    return file


def _file(path: str, kind: Kind) -> Attachment:
    if not path:
        raise BadSetting(f"--{kind} names no file.", "Name one.")
    return Attachment(path, kind, PurePath(path).name or path)


def with_defaults(
    file: Attachment,
    max_tiles: int | None,
    frames: int | None,
    start_s: float | None,
    end_s: float | None,
) -> Attachment:
    """The file with the choices made for all files, where it has none of its own."""
    if file.kind is Kind.IMAGE:
        return replace(file, max_tiles=_either(file.max_tiles, max_tiles))
    return replace(
        file,
        frames=_either(file.frames, frames),
        start_s=_either(file.start_s, start_s),
        end_s=_either(file.end_s, end_s),
    )


def _either(own: Number | None, others: Number | None) -> Number | None:
    return others if own is None else own


def _with_choice(file: Attachment, choice: str) -> Attachment:
    key, _, value = choice.partition("=")
    if key not in CHOICES[file.kind]:
        raise BadSetting(
            f"{file.name}: {key!r} cannot be chosen for {file.kind}s.",
            f"Choose {', '.join(CHOICES[file.kind])}.",
        )
    try:
        if key == "tiles":
            return replace(file, max_tiles=int(value))
        if key == "frames":
            return replace(file, frames=int(value))
        seconds = float(value)
    except ValueError:
        raise BadSetting(
            f"{file.name}: {key} is {value!r}, which is not a number.", "Correct it."
        ) from None
    return replace(file, start_s=seconds) if key == "from" else replace(file, end_s=seconds)
