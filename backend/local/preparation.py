"""Preparation: files are opened and cut, and the prompt is written, beside the model's thread.

A few daemon threads take requests in the order in which they will be served. Nothing here
touches the model; what comes out are arrays and token ids.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.prompt.budget import room_for_answer
from backend.prompt.compose import Composer, Prompt
from backend.stream import AnswerStream


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the model needs to answer: ids to read, pixels to see, room to write."""

    prompt: Prompt
    tiles: NDArray[np.uint8]  # [tiles, height, width, 3], of all attachments in order
    room: int  # tokens the answer may have


def prepare(composer: Composer, stream: AnswerStream) -> Prepared:
    """Write the prompt and cut the files of the stream's request, until it is closed.

    Raises `BadInput` for what cannot be read or does not fit.
    """

    def stopped() -> bool:
        return stream.closed

    request = stream.request
    prompt = composer.compose(request.conversation, stopped)
    room = room_for_answer(prompt.budget, request.sampling.max_new_tokens)
    side = composer.facts.tile
    cut = [np.empty((0, side, side, 3), np.uint8)]
    cut += [composer.media.tiles(file, stopped) for file in prompt.attachments]
    return Prepared(prompt, np.concatenate(cut), room)
