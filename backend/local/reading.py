"""What a question gives the model to read: tokens and tiles, and features of tiles not yet read.

It knows questions as they were prepared, and features by their contents; no caches, no network.
"""

from typing import Any

import numpy as np
from transformers.modeling_outputs import BaseModelOutputWithPooling

from backend.errors import EngineFailed
from backend.local.memory.features import Features
from backend.local.memory.prefix import Reading
from backend.local.preparation import Prepared


def read(prepared: Prepared, place: int, tokens_per_tile: int) -> Reading:
    """What the model is to read, tile by tile; `place` is the id of a context token."""
    return Reading(
        np.array(prepared.prompt.ids, np.int64),
        tuple((cut.key, tile) for cut in prepared.cuts for tile in range(len(cut.tiles))),
        place,
        tokens_per_tile,
    )


def see(features: Features, prepared: Prepared, reading: Reading, start: int) -> dict[str, Any]:
    """Features of the tiles from token `start` on, as `generate` takes them.

    Raises `EngineFailed` where the prompt has places for more or less.
    """
    unseen, tiles = list(prepared.cuts), reading.tiles_before(start)
    while unseen and tiles >= len(unseen[0].tiles):
        tiles -= len(unseen.pop(0).tiles)
    if not unseen:
        return {}
    seen = features.of(unseen)[tiles:]  # [tiles, tokens per tile, width]
    require_places(
        int(np.count_nonzero(reading.ids[start:] == reading.place)), seen.shape[0] * seen.shape[1]
    )
    return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=seen)}}


def require_places(places: int, tokens: int) -> None:
    """Raise `EngineFailed` unless so many places are those of so many tokens of pictures."""
    if places != tokens:
        raise EngineFailed(
            f"The prompt has {places} places for {tokens} tokens of pictures.",
            "The checkpoint's files do not go together: download it again.",
        )
