"""Reading the small JSON files of a checkpoint's folder, and the headers of its weights.

Knows nothing of what they mean.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import BadCheckpoint

MOST_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself: the size of each tensor, and of the whole file."""

    sizes: dict[str, tuple[int, ...]]
    file_bytes: int


def read_header(path: Path) -> Header:
    """The header of a safetensors file, whose numbers are not read.

    Raises `ValueError` for a file that has none, and `OSError` for one that cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            if size > MOST_HEADER_BYTES:
                raise ValueError(f"a header of {size} bytes")
            told = json.loads(stream.read(size))
        tensors = {name: tensor for name, tensor in told.items() if name != "__metadata__"}
        sizes = {name: tuple(tensor["shape"]) for name, tensor in tensors.items()}
        ends = [int(tensor["data_offsets"][1]) for tensor in tensors.values()]
    except (struct.error, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} has no header of safetensors") from error
    return Header(sizes, 8 + size + max(ends, default=0))


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`, or {} where there is no such file.

    Raises `BadCheckpoint` when the file is not a JSON object: a download broke off, or git left
    a pointer in its place.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise broken(path) from error
    if not isinstance(content, dict):
        raise broken(path)
    return content


def called(folder: Path) -> str:
    """How a person knows a folder: the repository, where the hub's cache made it, else its path."""
    kept = folder.parent.parent.name if folder.parent.name == "snapshots" else ""
    return kept.removeprefix("models--").replace("--", "/", 1) if "--" in kept else str(folder)


def broken(path: Path) -> BadCheckpoint:
    """The error of a file that is there and cannot be read."""
    return BadCheckpoint(f"{path} cannot be read.", "Download the checkpoint again.")
