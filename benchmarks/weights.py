"""A checkpoint of random weights, for measurements in which it does not matter what is said.

Small enough for two cores, and in proportion like the real ones: tiles of 448 px, and a vision
tower that takes somewhat longer over a picture than the language model over its tokens.
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    Qwen2Config,
)

from backend.checkpoint.find import BUNDLED_FOLDER

TILE = 448  # px
TOKENS_PER_TILE = 64  # the family has 256
MAX_TILES = 12
CONTEXT = 8192  # tokens
SHARED = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def make_checkpoint(folder: Path, tile: int = TILE, vision: int = 192) -> Path:
    """Write the checkpoint into `folder`; the same weights every time.

    Tiles have `tile` px and 64 tokens whatever that is; `vision` is the vision tower's width.
    """
    torch.manual_seed(0)
    bundled = json.loads((BUNDLED_FOLDER / "config.json").read_text(encoding="utf-8"))
    config = make_config(bundled, tile, vision)
    InternVLForConditionalGeneration(config).save_pretrained(folder)
    for name in SHARED:
        shutil.copy(BUNDLED_FOLDER / name, folder)
    pixels = json.loads((BUNDLED_FOLDER / "preprocessor_config.json").read_text(encoding="utf-8"))
    pixels |= {"size": {"height": tile, "width": tile}, "max_patches": MAX_TILES}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels), encoding="utf-8")
    return folder


def make_config(bundled: dict, tile: int = TILE, vision_width: int = 192) -> InternVLConfig:
    """The bundled checkpoint's vocabulary, in other proportions."""
    vision = InternVLVisionConfig(
        hidden_size=vision_width,
        num_hidden_layers=4,
        num_attention_heads=vision_width // 32,
        intermediate_size=4 * vision_width,
        image_size=[tile, tile],
        patch_size=[tile // 16, tile // 16],
        initializer_range=0.1,
    )
    text = Qwen2Config(
        vocab_size=bundled["text_config"]["vocab_size"],
        hidden_size=192,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=512,
        max_position_embeddings=CONTEXT,
        initializer_range=0.1,
        tie_word_embeddings=True,
        eos_token_id=bundled["text_config"]["eos_token_id"],
        pad_token_id=bundled["text_config"]["pad_token_id"],
    )
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=bundled["image_token_id"],
        image_seq_length=TOKENS_PER_TILE,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
