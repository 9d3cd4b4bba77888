"""Preparation: files are opened and cut, and the prompt is written, beside the model's thread.

A few daemon threads take requests in the order in which they will be served. Nothing here
touches the model; what comes out are arrays and token ids.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.conversation import Attachment
from backend.media.reader import MediaReader
from backend.media.stopping import StopSign, never
from backend.prompt.budget import room_for_answer
from backend.prompt.compose import Composer, Prompt
from backend.stream import AnswerStream


@dataclass(frozen=True, slots=True)
class Cut:
    """The tiles of one attachment. Equal keys mean equal tiles, in whatever conversation."""

    key: bytes
    tiles: NDArray[np.uint8]  # [tiles, height, width, 3], not to be written


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the model needs to answer: ids to read, pixels to see, room to write."""

    prompt: Prompt
    cuts: tuple[Cut, ...]  # of all attachments, in the order of their places in the prompt
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
    cuts = tuple(cut(composer.media, file, stopped) for file in prompt.attachments)
    return Prepared(prompt, cuts, room)


def cut(media: MediaReader, file: Attachment, stopped: StopSign = never) -> Cut:
    """The tiles of a file and the name of their content. Raises `BadFile`."""
    return Cut(media.key(file, stopped), media.tiles(file, stopped))
