"""Facts of a checkpoint: all that differs from one InternVL to the next, read from its JSON files.

Both layouts give the same facts: `-hf` (model_type "internvl") and the original one
("internvl_chat"). No weights are opened here, and nothing is known of prompts or pictures.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from backend.checkpoint.files import called, read_json
from backend.checkpoint.tokenizer import read_added_tokens
from backend.errors import BadCheckpoint

# conversation.py of OpenGVLab/InternVL @2410d1d, template internvl2_5
OFFICIAL_SYSTEM_PROMPT = (
    "你是书生·万象，英文名是InternVL，"
    "是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
TEMPLATE = "internvl2_5"
END_OF_TURN = "<|im_end|>"
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # the model card
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_TILES = 12  # the model card's load_image
CONTEXT_LENGTH = 32_768  # Qwen2Config's default, which a saved config may leave out
TILE = 448  # px; InternVLVisionConfig's defaults
PATCH = 14  # px
DOWNSAMPLE_RATIO = 0.5


class Layout(StrEnum):
    """How a checkpoint names its configuration and its weights."""

    HF = "hf"
    ORIGINAL = "original"


LAYOUTS = {"internvl": Layout.HF, "internvl_chat": Layout.ORIGINAL}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rest of the program must know of a checkpoint."""

    name: str  # how a person knows it
    folder: Path
    layout: Layout
    tile: int  # px, side of a tile
    tokens_per_tile: int
    max_tiles: int  # of an image unless chosen otherwise; the thumbnail comes on top
    thumbnail: bool  # whether an image of several tiles is followed by a small whole
    mean: tuple[float, float, float]  # of red, green, blue in 0…1
    std: tuple[float, float, float]
    context_length: int  # tokens, prompt and answer together
    embedding_rows: int  # ids from here on must never reach the model
    eos_token_ids: tuple[int, ...]
    system_prompt: str


def read_facts(folder: Path, name: str | None = None) -> Facts:
    """Facts of the checkpoint in `folder`, called `name` (else the folder's own name).

    Raises `BadCheckpoint` when there is no configuration or it is of another family.
    """
    if not folder.is_dir():
        raise BadCheckpoint(f"There is no folder {folder}.", "Give the folder of a checkpoint.")
    config = read_json(folder / "config.json")
    if not config:
        raise BadCheckpoint(
            f"{called(folder)} has no config.json, so it is no checkpoint.",
            "Give the folder that one was saved to, or OpenGVLab/InternVL3-2B-hf or the like.",
        )
    layout = recognise_layout(folder, config)
    try:
        read = _read_hf if layout is Layout.HF else _read_original
        return read(folder, name or folder.resolve().name, config)
    except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise BadCheckpoint(
            f"{folder / 'config.json'} is not as InternVL writes it ({error!r}).",
            "Download the checkpoint again.",
        ) from error


def recognise_layout(folder: Path, config: Mapping[str, Any]) -> Layout:
    """The layout of a configuration; raises `BadCheckpoint` for another family of models."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in LAYOUTS:
        raise BadCheckpoint(
            f"{called(folder)} holds a model of type {model_type!r}, not an InternVL.",
            "Give a checkpoint of InternVL2.5, 3 or 3.5, as 2B or OpenGVLab/InternVL3-2B-hf.",
        )
    template = config.get("template", TEMPLATE)
    if template != TEMPLATE:
        raise BadCheckpoint(
            f"{called(folder)} was trained with the chat template {template!r}, not {TEMPLATE!r}.",
            "Give a checkpoint of InternVL2.5 or later.",
        )
    return LAYOUTS[model_type]


def _read_hf(folder: Path, name: str, config: Mapping[str, Any]) -> Facts:
    text, vision = config["text_config"], config.get("vision_config", {})
    tile = _side(vision.get("image_size", TILE))
    # transformers 5 may save the image processor inside processor_config.json.
    pixels = read_json(folder / "preprocessor_config.json")
    pixels = pixels or read_json(folder / "processor_config.json").get("image_processor", {})
    return Facts(
        name=name,
        folder=folder,
        layout=Layout.HF,
        tile=tile,
        tokens_per_tile=_tokens_per_tile(tile, vision, config),
        # crop_to_patches is false even in official checkpoints, so it says nothing.
        max_tiles=int(pixels.get("max_patches", MAX_TILES)),
        thumbnail=True,
        mean=_colour(pixels.get("image_mean", IMAGENET_MEAN)),
        std=_colour(pixels.get("image_std", IMAGENET_STD)),
        context_length=int(text.get("max_position_embeddings", CONTEXT_LENGTH)),
        embedding_rows=int(text["vocab_size"]),
        eos_token_ids=_eos_token_ids(folder, config),
        system_prompt=OFFICIAL_SYSTEM_PROMPT,
    )


def _read_original(folder: Path, name: str, config: Mapping[str, Any]) -> Facts:
    text, vision = config["llm_config"], config.get("vision_config", {})
    tile = _side(config.get("force_image_size") or vision.get("image_size", TILE))
    dynamic = config.get("dynamic_image_size", True)
    return Facts(
        name=name,
        folder=folder,
        layout=Layout.ORIGINAL,
        tile=tile,
        tokens_per_tile=_tokens_per_tile(tile, vision, config),
        max_tiles=int(config.get("max_dynamic_patch", MAX_TILES)) if dynamic else 1,
        thumbnail=bool(config.get("use_thumbnail", True)),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        context_length=int(text.get("max_position_embeddings", CONTEXT_LENGTH)),
        embedding_rows=int(text["vocab_size"]),
        # `model.chat` stops at the template's separator alone, whatever the files say.
        eos_token_ids=_end_of_turn(folder),
        system_prompt=str(config.get("system_message") or OFFICIAL_SYSTEM_PROMPT),
    )


def _side(size: int | list[int]) -> int:
    """The side of a square given as a number or as [height, width], px."""
    height, width = size if isinstance(size, list) else (size, size)
    if height != width:
        raise ValueError(f"tiles of {width} x {height} px are not square")
    return int(height)


def _tokens_per_tile(tile: int, vision: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """448 px / 14 px per patch = 32 patches a side, pixel-unshuffled by 0.5: 16² = 256 tokens."""
    patches = tile // _side(vision.get("patch_size", PATCH))
    tokens = int((patches * float(config.get("downsample_ratio", DOWNSAMPLE_RATIO))) ** 2)
    if tokens < 1:
        raise ValueError(f"a tile of {tile} px gives no token")
    return tokens


def _colour(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _eos_token_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids that end an answer: the generation config's, else the config's, and the turn's end."""
    generation = read_json(folder / "generation_config.json")
    for source in (generation, config, config["text_config"]):
        ids = source.get("eos_token_id")
        if ids is not None:
            listed = tuple(ids) if isinstance(ids, list) else (ids,)
            return tuple(dict.fromkeys((*listed, *_end_of_turn(folder))))
    return _end_of_turn(folder)


def _end_of_turn(folder: Path) -> tuple[int, ...]:
    added = read_added_tokens(folder)
    return (added[END_OF_TURN].id,) if END_OF_TURN in added else ()
