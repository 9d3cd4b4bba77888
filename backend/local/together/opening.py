"""Deciding whether a loaded model answers several requests at once, and making its batch."""

from typing import Any

from transformers import InternVLForConditionalGeneration

from backend.errors import BadSetting
from backend.local.loaded import places_of
from backend.local.quantization import quantization_of
from backend.local.together.ability import why_one_at_a_time
from backend.local.together.batch import Batch, Loaded
from backend.local.together.size import Size
from backend.local.worker import Batching
from backend.settings import OFF, ON

LEAST = 2  # requests of the usual length that a batch must have room for, or it is none


def open_batching(wanted: str, loaded: Loaded, size: Size) -> Batching:
    """The batch of a model, if that is wanted and can be.

    Raises `BadSetting`, with the reason, when it is insisted on and cannot be.
    """
    if wanted == OFF:
        return Batching(reason="as was asked for")
    usual = min(loaded.facts.context_length, size.usual)
    reason = why_not(loaded.network, size, usual)
    if not reason:
        return Batching(Batch(loaded, size), always=wanted == ON)
    if wanted == ON:
        raise BadSetting(
            f"--batching on cannot be had: {reason}.", "Leave it out, to answer one at a time."
        )
    return Batching(reason=reason)


def why_not(network: InternVLForConditionalGeneration, size: Size, usual: int) -> str:
    """Why a model cannot answer several requests of the usual length at once; "" if it can."""
    config: Any = network.config.get_text_config(decoder=True)
    reason = why_one_at_a_time(
        {f"cuda:{at}" if isinstance(at, int) else str(at) for at in places_of(network)},
        str(config._attn_implementation),
        quantization_of(network) is not None,
        getattr(config, "layer_types", None) or ["full_attention"],
    )
    if not reason and size.tokens < LEAST * usual:
        return f"beside the model there is room for {size.tokens:,} tokens of several questions"
    return reason
