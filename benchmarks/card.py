"""The model card's way, written anew from what it does: the rival of most measurements.

It cuts and transforms tile by tile, reads videos with decord in this process, starts a thread for
each answer and reads it through a stock `TextIteratorStreamer`, with no way to stop.

Source: "Inference with Transformers" of the InternVL3 model card; what torchvision 0.26 does for
`T.ToTensor` and `T.Normalize` is written out, since it is not needed otherwise.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, InternVLForConditionalGeneration, TextIteratorStreamer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of red, green, blue
TILE = 448  # px
MAX_TILES = 12


def load_image(path: Path, tile: int = TILE, max_tiles: int = MAX_TILES) -> torch.Tensor:
    """Pixels of an image, float32 [tiles, 3, tile, tile], the thumbnail last."""
    image = Image.open(path).convert("RGB")
    return torch.stack([transform(part) for part in cut(image, tile, max_tiles)])


def load_video(path: Path, samples: int, tile: int = TILE) -> torch.Tensor:
    """Pixels of evenly spread frames, one tile each: float32 [samples, 3, tile, tile]."""
    import decord

    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    frames = [
        Image.fromarray(reader[index].asnumpy()).convert("RGB")
        for index in choose_indices(len(reader) - 1, samples)
    ]
    return torch.stack([transform(part) for frame in frames for part in cut(frame, tile, 1)])


def choose_indices(last: int, samples: int) -> list[int]:
    """Indices of the card's frames when the whole video is taken."""
    step = last / samples
    return [int(step / 2 + np.round(step * number)) for number in range(samples)]


def cut(image: Image.Image, tile: int, max_tiles: int) -> list[Image.Image]:
    """The image's tiles, each a picture of its own."""
    columns, rows = closest_grid(image.width, image.height, max_tiles, tile)
    resized = image.resize((columns * tile, rows * tile))
    tiles = []
    for number in range(columns * rows):
        left, top = number % columns * tile, number // columns * tile
        tiles.append(resized.crop((left, top, left + tile, top + tile)))
    if len(tiles) != 1:
        tiles.append(image.resize((tile, tile)))
    return tiles


def closest_grid(width: int, height: int, max_tiles: int, tile: int) -> tuple[int, int]:
    """The grid nearest in proportions; a later equal one wins if the image fills half of it."""
    grids = {
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles + 1)
        if columns * rows <= max_tiles
    }
    best, least = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(width / height - columns / rows)
        fills = width * height > 0.5 * tile * tile * columns * rows
        if difference < least or (difference == least and fills):
            best, least = (columns, rows), difference
    return best


def transform(part: Image.Image) -> torch.Tensor:
    """One tile as the card's `T.Compose` gives it: float32 [3, height, width]."""
    pixels = torch.from_numpy(np.array(part, np.uint8, copy=True))
    scaled = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return scaled.clone().sub_(mean).div_(std)


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: its tokens, and when the first one was there, by `time.perf_counter`."""

    ids: tuple[int, ...]
    first_at: float


class NotingStreamer(TextIteratorStreamer):
    """The stock streamer; notes tokens as they come, since it holds text back until a space."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer, skip_prompt=True)
        self.ids: list[int] = []
        self.first_at = 0.0

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, or the next token."""
        if not self.next_tokens_are_prompt:
            self.first_at = self.first_at or time.perf_counter()
            self.ids += value.tolist()
        super().put(value)


class CardChat:
    """Answers in a thread of its own for each question; whoever reads may go, it goes on."""

    def __init__(self, network: InternVLForConditionalGeneration, folder: Path) -> None:
        self._network = network
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def begin(self, ids: torch.Tensor, tokens: int) -> threading.Thread:
        """Begin an answer of `tokens` tokens to a prompt [1, length]; returns at once."""
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True)
        return self._start(ids, tokens, streamer)

    def answer(self, ids: torch.Tensor, pixels: torch.Tensor, tokens: int) -> Told:
        """An answer about pictures, float32 [tiles, 3, height, width], read to its end."""
        streamer = NotingStreamer(self._tokenizer)
        thread = self._start(ids, tokens, streamer, pixel_values=pixels)
        for _ in streamer:
            continue
        thread.join()
        return Told(tuple(streamer.ids), streamer.first_at)

    def _start(
        self, ids: torch.Tensor, tokens: int, streamer: TextIteratorStreamer, **pictures: Any
    ) -> threading.Thread:
        choices = pictures | {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "max_new_tokens": tokens,
            "do_sample": False,
            "pad_token_id": 0,
            "streamer": streamer,
        }
        thread = threading.Thread(target=self._network.generate, kwargs=choices)
        thread.start()
        return thread
