"""Pictures and questions to measure with, made anew for each run and the same every time."""

from pathlib import Path

import numpy as np
from PIL import Image

from backend.conversation import Attachment, Conversation, Request, Sampling, Turn
from backend.media.recognise import attach

WORDS = "Describe the shapes, their colours, and where each of them stands. "


def make_photograph(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """A JPEG with as much to decode as a photograph: soft areas, edges and grain."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 96 + 2, width // 96 + 2, 3), np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = random.integers(0, 12, (height, width, 1), np.uint8)
    edges = (np.add.outer(np.arange(height) // 40, np.arange(width) // 56) % 2 * 24)[..., None]
    pixels = soft // 2 + edges.astype(np.uint8) + grain
    Image.fromarray(pixels).save(path, "JPEG", quality=90)
    return path


def ask(
    question: str, files: tuple[Attachment, ...] = (), most: int = 1024, session: str = "one"
) -> Request:
    """A request of one turn."""
    conversation = Conversation().asked(Turn(question, files))
    return Request(conversation, Sampling(max_new_tokens=most), session)


def long_question(folder: Path, pictures: int, words: int) -> tuple[str, tuple[Attachment, ...]]:
    """A question that takes noticeable time to read: pictures of 13 tiles and much text."""
    files = [
        attach(str(make_photograph(folder / f"{number}.jpg", 640, 480, number)), max_tiles=12)
        for number in range(pictures)
    ]
    return WORDS * words, tuple(files)
