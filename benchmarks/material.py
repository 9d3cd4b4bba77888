"""Pictures and questions to measure with, made anew for each run and the same every time."""

from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from backend.conversation import Attachment, Conversation, Request, Sampling, Turn
from backend.media.recognise import attach

WORDS = "Describe the shapes, their colours, and where each of them stands. "


def make_photograph(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """A JPEG with as much to decode as a photograph."""
    draw_scene(width, height, seed).save(path, "JPEG", quality=90)
    return path


def draw_scene(width: int, height: int, seed: int) -> Image.Image:
    """Soft areas, edges and grain."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 96 + 2, width // 96 + 2, 3), np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = random.integers(0, 12, (height, width, 1), np.uint8)
    edges = (np.add.outer(np.arange(height) // 40, np.arange(width) // 56) % 2 * 24)[..., None]
    return Image.fromarray(soft // 2 + edges.astype(np.uint8) + grain)


def draw_page(width: int, height: int, size: int = 32) -> Image.Image:
    """A page of print, letters of `size` px: the sharpest edges that people bring."""
    page = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for top in range(size, height - size, size * 3 // 2):
        pen.text((size, top), WORDS * 6, fill="black", font=font)
    return page


def make_video(path: Path, width: int, height: int, seconds: float) -> Path:
    """An H.264 video of 30 frames a second, a key frame every 250: a square over a soft scene."""
    scene = np.array(draw_scene(width, height, seed=0))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "250", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(round(seconds * 30)):
            picture = np.roll(scene, number, axis=1)
            side, left = height // 4, number * 4 % (width - height // 4)
            picture[side : 2 * side, left : left + side] = (220, 40, 40)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
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
