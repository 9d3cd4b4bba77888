"""A checkpoint of any shape with random weights, in shards, written module by module.

Only one module is in memory at a time, so that a size of the family can be written on a machine
that could not hold it. The tokenizer is the bundled one: its words are few, and nobody reads what
a random model says.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import InternVLConfig

from backend.checkpoint.find import BUNDLED_FOLDER, INDEX
from backend.checkpoint.tokenizer import read_tokens
from backend.planner.shapes import Parameters, Shape, TextShape

SHARED = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
SPREAD = 0.02  # as InternVL's own initialisation
PICTURE = "<IMG_CONTEXT>"


def write_checkpoint(folder: Path, shape: Shape, device: str = "cpu") -> Path:
    """Fill `folder`; the numbers are drawn on `device`, in bfloat16."""
    config_of(shape).save_pretrained(folder)
    for name in SHARED:
        shutil.copy(BUNDLED_FOLDER / name, folder)
    random = torch.Generator(device).manual_seed(0)
    places: dict[str, str] = {}
    for number, (module, parameters) in enumerate(shape.modules.items()):
        file = f"model-{number:05}.safetensors"
        drawn = draw(module, parameters, random)
        if drawn:
            save_file(drawn, folder / file, {"format": "pt"})
        places |= dict.fromkeys(drawn, file)
    index = {"metadata": {"total_size": shape.saved_bytes}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return folder


def draw(module: str, parameters: Parameters, random: torch.Generator) -> dict[str, torch.Tensor]:
    """A module's numbers: ones for the scales of norms, small ones for all others."""
    made = {}
    for name, size in parameters.items():
        values = torch.empty(size, dtype=torch.bfloat16, device=random.device)
        is_scale = "norm" in name and name.endswith("weight") or "norm" in module
        values = values.fill_(1) if is_scale else values.normal_(0, SPREAD, generator=random)
        made[f"{module}.{name}"] = values.cpu()
    return made


def config_of(shape: Shape) -> InternVLConfig:
    """transformers' configuration of a shape."""
    vision = shape.vision
    return InternVLConfig(
        vision_config={
            "hidden_size": vision.hidden,
            "intermediate_size": vision.ffn,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "attention_bias": vision.qkv_bias,
            "use_qk_norm": vision.qk_norm,
            "norm_type": "rms_norm" if vision.rms_norm else "layer_norm",
            "image_size": [vision.tile, vision.tile],
            "patch_size": [vision.patch, vision.patch],
        },
        text_config=text_config_of(shape.text, shape.context),
        image_token_id=read_tokens(BUNDLED_FOLDER).special(PICTURE),
        downsample_ratio=1 / shape.shrink,
        tie_word_embeddings=shape.tied,
        dtype="bfloat16",
    )


def text_config_of(text: TextShape, context: int) -> dict[str, object]:
    """The language part's: Qwen2 has biases on queries, keys and values, Llama none."""
    return {
        "model_type": "qwen2" if text.qkv_bias else "llama",
        "hidden_size": text.hidden,
        "intermediate_size": text.ffn,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.kv_heads,
        "vocab_size": text.vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
        "eos_token_id": None,
        "bos_token_id": None,
    }
