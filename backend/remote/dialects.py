"""How each engine is spoken to: what it is called, how pictures stand in the words, what it takes.

Pure. Sources: transcripts of 86 requests each to llama.cpp b11434, transformers 5.24, vLLM 0.32
and SGLang 0.5.23; for LMDeploy its sources (lmdeploy/vl/model/internvl.py @02a25eb,
lmdeploy/serve/openai/protocol.py @0051af7), which have not been run.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from backend.checkpoint.facts import Layout
from backend.conversation import Sampling
from backend.engine import Inability

MOST_STOPS_OF_OPENAI = 4
Fields = Mapping[str, Any]


class Software(StrEnum):
    """The engines that are told apart."""

    LMDEPLOY = "LMDeploy"
    VLLM = "vLLM"
    SGLANG = "SGLang"
    LLAMA = "llama.cpp"
    TRANSFORMERS = "transformers serve"
    OTHER = "an OpenAI-compatible engine"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one engine wants. `token` set: pictures stand in the words as this text.

    Else they are parts among parts, and `breaks` tells that the engine's own template breaks the
    line after each. `most_stops` stop texts are sent; where there are more, the answer is cut here.
    """

    software: Software
    sampling: Callable[[Sampling], Fields]
    token: str = ""
    breaks: bool = False
    most_stops: int = MOST_STOPS_OF_OPENAI
    unable: tuple[Inability, ...] = ()
    combines: bool = False  # whether several pictures can share one place
    caps_tiles: bool = False  # whether each picture bears its largest number of tiles
    remembers: bool = False  # whether pictures have ids under which they need not be sent again


def choose_dialect(software: Software, layout: Layout) -> Dialect:
    """How to speak to an engine that serves a checkpoint of this layout."""
    match software:
        case Software.LMDEPLOY:
            return Dialect(
                software,
                _with_special(_with_all),
                token="<IMAGE_TOKEN>",
                combines=True,
                caps_tiles=True,
            )
        case Software.VLLM:
            original = layout is Layout.ORIGINAL
            return Dialect(
                software,
                _with_special(_with_all),
                token="<image>" if original else "",
                breaks=not original,
                unable=(NOT_COMBINED,),
                remembers=True,
            )
        case Software.SGLANG:
            return Dialect(
                software,
                _with_special(_with_all_or_minus_one),
                breaks=True,
                unable=(NOT_COMBINED, NO_SEED),
                caps_tiles=layout is Layout.ORIGINAL,
            )
        case Software.LLAMA:
            return Dialect(
                software, _for_llama, most_stops=16, unable=(NOT_COMBINED, NO_BOXES_OF_LLAMA)
            )
        case Software.TRANSFORMERS:
            return Dialect(
                software,
                _for_transformers,
                breaks=True,
                most_stops=0,
                unable=(NOT_COMBINED, NO_BOXES_OF_TRANSFORMERS),
            )
        case Software.OTHER:
            unable = (NOT_COMBINED, *(Inability(name, NOT_OPENAI) for name in BEYOND_OPENAI))
            return Dialect(software, _plain, breaks=layout is Layout.HF, unable=unable)


BEYOND_OPENAI = ("top_k", "repetition_penalty")
NOT_OPENAI = "The engine does not say that it takes this."
NOT_COMBINED = Inability("combined", "The engine numbers pictures one by one.")
NO_BOXES_OF_LLAMA = Inability(
    "boxes",
    "Without --special llama.cpp leaves out the signs of boxes; those amid other words are not "
    "drawn.",
)
NO_BOXES_OF_TRANSFORMERS = Inability(
    "boxes",
    "Without a response_template transformers serve leaves out the signs of boxes; those amid "
    "other words are not drawn.",
)
NO_SEED = Inability("seed", "SGLang answers differently to the same seed.")


def _plain(sampling: Sampling) -> Fields:
    """OpenAI's own fields."""
    fields: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.seed is not None:
        fields["seed"] = sampling.seed
    return fields


def _with_all(sampling: Sampling) -> Fields:
    """With what vLLM, SGLang and LMDeploy take beyond. All are sent, as defaults differ."""
    return {
        **_plain(sampling),
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repetition_penalty,
    }


def _with_all_or_minus_one(sampling: Sampling) -> Fields:
    """SGLang says "all tokens" with -1."""
    return {**_with_all(sampling), "top_k": sampling.top_k or -1}


def _with_special(fields: Callable[[Sampling], Fields]) -> Callable[[Sampling], Fields]:
    """Boxes are special tokens of the InternVL tokenizers; they are wanted, others dropped here."""
    return lambda sampling: {**fields(sampling), "skip_special_tokens": False}


def _for_llama(sampling: Sampling) -> Fields:
    """llama.cpp has another name for the penalty, and cuts rare tokens unless told not to."""
    return {
        **_plain(sampling),
        "top_k": sampling.top_k,
        "min_p": 0,
        "repeat_penalty": sampling.repetition_penalty,
        "cache_prompt": True,
    }


def _for_transformers(sampling: Sampling) -> Fields:
    """transformers refuses unknown fields, takes a generation config, and samples only when told.

    The seed is set for the whole process: it holds while nobody else samples.
    """
    fields = dict(_plain(sampling))
    if sampling.temperature > 0 or sampling.repetition_penalty != 1:
        config = {
            "do_sample": sampling.temperature > 0,
            "top_k": sampling.top_k,
            "repetition_penalty": sampling.repetition_penalty,
        }
        fields["generation_config"] = json.dumps(config)
    return fields
