"""Examples that work with the model at hand: a question and its files, listed in a JSON file.

[{"question": "What is here?", "files": ["shapes.png"], "says": "…"}]
"""

import json
from dataclasses import dataclass
from pathlib import Path

from gradio.processing_utils import save_bytes_to_cache, save_file_to_cache
from gradio.utils import get_upload_folder

from backend.conversation import Attachment
from backend.errors import EngineError
from backend.media.reader import MediaReader
from backend.media.recognise import attach

FOLDER = Path(__file__).parent.parent / "assets" / "examples"
ABILITIES = "abilities.md"  # beside a checkpoint: what it can and cannot, in a few sentences
MOST_PREVIEWS = 3  # of one example


@dataclass(frozen=True, slots=True)
class Example:
    """A question, its files, and previews of them (paths from which the browser may fetch)."""

    question: str
    files: tuple[Attachment, ...]
    previews: tuple[str, ...] = ()


def read_examples(folder: Path, media: MediaReader) -> tuple[Example, ...]:
    """The examples of a folder; none if it lists none. One whose file is missing is left out."""
    listing = folder / "examples.json"
    if not listing.is_file():
        return ()
    examples = []
    for entry in json.loads(listing.read_text(encoding="utf-8")):
        try:
            examples.append(read_example(folder, entry["question"], entry["files"], media))
        except EngineError:
            continue
    return tuple(examples)


def read_example(folder: Path, question: str, names: list[str], media: MediaReader) -> Example:
    """One example. Raises `BadFile` for a file that cannot be used."""
    files = tuple(attach(shared(folder / name), Path(name).name) for name in names)
    jpegs = [media.previews(file)[0] for file in files[:MOST_PREVIEWS]]
    previews = (save_bytes_to_cache(jpeg, "preview.jpg", get_upload_folder()) for jpeg in jpegs)
    return Example(question, files, tuple(previews))


def shared(path: Path) -> str:
    """A copy of a project file in the folder from which the browser may fetch."""
    return save_file_to_cache(path, get_upload_folder()) if path.is_file() else str(path)


def read_abilities(checkpoint: Path) -> str:
    """What a checkpoint says of itself; "" if it says nothing."""
    note = checkpoint / ABILITIES
    return note.read_text(encoding="utf-8").strip() if note.is_file() else ""
