"""Reads the shape of a checkpoint from its config.json alone, in either layout.

`-hf` ("internvl") names things as transformers does, the original ("internvl_chat") in its own
words. Where a config leaves a number out, transformers' default of that class (5.24) holds,
as it would on loading.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.checkpoint.files import read_json
from backend.errors import BadCheckpoint
from backend.planner.shapes import Shape, TextShape, VisionShape

Config = Mapping[str, Any]
LANGUAGES = ("qwen2", "qwen3", "llama", "internlm2")
FLOATS = ("bfloat16", "float16", "float32")
QWEN3_HEAD_DIM = 128  # Qwen3Config's default; the others divide the hidden size


def read_shape(folder: Path, name: str | None = None) -> Shape:
    """The shape of the checkpoint in `folder`; raises `BadCheckpoint` naming what is wrong."""
    name = name or folder.resolve().name
    config = read_json(folder / "config.json")
    if not config:
        raise BadCheckpoint(
            f"{folder} has no config.json.", "Give the folder that a checkpoint was saved to."
        )
    return shape_of(config, name)


def shape_of(config: Config, name: str) -> Shape:
    """The shape a parsed config.json describes.

    Raises `BadCheckpoint` for another family, a language part that this project does not load,
    weights saved quantised, and numbers that are missing or make no sense.
    """
    layout = str(config.get("model_type"))
    if layout not in _LAYOUTS:
        raise BadCheckpoint(
            f"{name} is a model of type {layout!r}, not an InternVL.",
            "Give a checkpoint of InternVL2.5, 3 or 3.5, as 2B or OpenGVLab/InternVL3-2B-hf.",
        )
    if config.get("quantization_config"):
        raise BadCheckpoint(
            f"The weights of {name} were saved quantised, which cannot be planned.",
            "Choose the checkpoint it was made from, and quantise on loading.",
        )
    _require_known_language(config, name)
    try:
        return _LAYOUTS[layout](config, name)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise BadCheckpoint(
            f"The config.json of {name} is not as InternVL writes it ({error!r}).",
            "Download the checkpoint again.",
        ) from error


def _read_hf(config: Config, name: str) -> Shape:
    vision, text = config.get("vision_config") or {}, config["text_config"]
    shape = replace(
        _read_vision(vision),
        rms_norm=vision.get("norm_type", "layer_norm") == "rms_norm",
        qkv_bias=bool(vision.get("attention_bias", False)),
        qk_norm=bool(vision.get("use_qk_norm", False)),
        positions=bool(vision.get("use_absolute_position_embeddings", True)),
        mask_token=bool(vision.get("use_mask_token", False)),
        final_norm=not vision.get("use_mean_pooling", True),
    )
    return _join(config, name, shape, text, tied=bool(config.get("tie_word_embeddings", True)))


def _read_original(config: Config, name: str) -> Shape:
    vision, text = config["vision_config"], config["llm_config"]
    shape = replace(
        _read_vision(vision),
        rms_norm=vision.get("norm_type", "rms_norm") == "rms_norm",
        qkv_bias=bool(vision.get("qkv_bias", False)),
        qk_norm=bool(vision.get("qk_normalization", True)),
    )
    joined = _join(config, name, shape, text, tied=bool(config.get("tie_word_embeddings", False)))
    ranks = [int(config.get(part) or 0) for part in ("use_llm_lora", "use_backbone_lora")]
    return replace(joined, own_rank=ranks[0], own_vision_rank=ranks[1])


_LAYOUTS = {"internvl": _read_hf, "internvl_chat": _read_original}


def _join(config: Config, name: str, vision: VisionShape, text: Config, tied: bool) -> Shape:
    saved = config.get("dtype") or config.get("torch_dtype")
    return Shape(
        name=name,
        vision=vision,
        text=_read_text(text),
        context=_whole(text.get("max_position_embeddings", 32_768)),
        shrink=round(1 / config.get("downsample_ratio", 0.5)),
        tied=tied,
        saved_as=saved if saved in FLOATS else "float32",
    )


def _read_vision(vision: Config) -> VisionShape:
    """The numbers both layouts call alike."""
    return VisionShape(
        layers=_whole(vision.get("num_hidden_layers", 24)),
        hidden=_whole(vision.get("hidden_size", 1024)),
        heads=_whole(vision.get("num_attention_heads", 16)),
        ffn=_whole(vision.get("intermediate_size", 4096)),
        tile=_side(vision.get("image_size", 448)),
        patch=_side(vision.get("patch_size", 14)),
        channels=_whole(vision.get("num_channels", 3)),
    )


def _read_text(text: Config) -> TextShape:
    kind = text.get("model_type", "qwen2")
    heads, hidden = _whole(text["num_attention_heads"]), _whole(text["hidden_size"])
    usual = QWEN3_HEAD_DIM if kind == "qwen3" else hidden // heads
    return TextShape(
        layers=_whole(text["num_hidden_layers"]),
        hidden=hidden,
        heads=heads,
        kv_heads=_whole(text.get("num_key_value_heads") or heads),
        head_dim=_whole(text.get("head_dim") or usual),
        ffn=_whole(text["intermediate_size"]),
        vocabulary=_whole(text["vocab_size"]),
        **_text_extras(kind, text),
    )


def _require_known_language(config: Config, name: str) -> None:
    text = config.get("text_config") or config.get("llm_config")
    kind = str(text.get("model_type", "qwen2")) if isinstance(text, dict) else "qwen2"
    if kind not in LANGUAGES:
        experts = ", a mixture of experts" if "moe" in kind or "gpt_oss" in kind else ""
        raise BadCheckpoint(
            f"The language part of {name} is {kind}{experts}, which this program does not load.",
            f"Give a dense checkpoint of InternVL2.5, 3 or 3.5 ({', '.join(LANGUAGES)}).",
        )


def _text_extras(kind: str, text: Config) -> dict[str, bool]:
    """Which optional biases and norms a language part has."""
    if kind == "qwen2":
        return {"qkv_bias": True}
    if kind == "qwen3":
        bias = bool(text.get("attention_bias", False))
        return {"qkv_bias": bias, "output_bias": bias, "head_norm": True}
    if kind == "llama":
        bias, mlp_bias = bool(text.get("attention_bias")), bool(text.get("mlp_bias"))
        return {"qkv_bias": bias, "output_bias": bias, "mlp_bias": mlp_bias}
    bias = bool(text.get("bias", False))  # InternLM2's, which means attention only
    return {"qkv_bias": bias, "output_bias": bias}


def _side(value: object) -> int:
    """Tiles and patches are square: one number, or the same one twice."""
    if isinstance(value, list):
        first, *others = value
        if any(other != first for other in others):
            raise ValueError(f"{value} is not square")
        value = first
    return _whole(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is no positive whole number")
    return value
