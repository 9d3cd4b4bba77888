"""Reading the small JSON files of a checkpoint's folder. Knows nothing of what they mean."""

import json
from pathlib import Path
from typing import Any

from backend.errors import BadCheckpoint


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


def broken(path: Path) -> BadCheckpoint:
    """The error of a file that is there and cannot be read."""
    return BadCheckpoint(f"{path} cannot be read.", "Download the checkpoint again.")
