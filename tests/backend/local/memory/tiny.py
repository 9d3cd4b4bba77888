"""A random InternVL of a few thousand weights, and files made of noise: quick, and all unlike."""

import random
import zlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    Qwen2Config,
)

from backend.conversation import Attachment, Kind
from backend.prompt.compose import Composer
from tests.backend.local.stand_ins import InstantMedia, instant_composer

TILE = 56  # px
EACH = 4  # tokens of a tile


class NoiseMedia(InstantMedia):
    """An attachment's path says how it is cut, as "noise-3x4": three places of four tiles."""

    def look(self, file: Attachment, stopped: Any = bool) -> Any:
        places, tiles = map(int, file.path.rpartition("-")[2].split("x"))
        return SimpleNamespace(blocks=(tiles,) * places)

    def tiles(self, file: Attachment, stopped: Any = bool) -> Any:
        noise = np.random.default_rng(zlib.crc32(file.path.encode()))
        count = sum(self.look(file).blocks)
        return noise.integers(0, 256, (count, TILE, TILE, 3), np.uint8)


def tiny_composer() -> Composer:
    """The bundled tokenizer for a network with small tiles."""
    composer = instant_composer()
    facts = replace(composer.facts, tile=TILE, tokens_per_tile=EACH)
    return Composer(facts, composer.tokens, NoiseMedia(TILE))  # type: ignore[arg-type]


def tiny_network(composer: Composer, **text: Any) -> InternVLForConditionalGeneration:
    """The same weights every time; their size makes words and pictures matter."""
    torch.manual_seed(0)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=[TILE, TILE],
            patch_size=[14, 14],
            initializer_range=0.2,
        ),
        text_config=Qwen2Config(
            **{
                "vocab_size": composer.facts.embedding_rows,
                "hidden_size": 32,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 64,
                "max_position_embeddings": 4096,
                "initializer_range": 0.2,
            }
            | text
        ),
        image_token_id=composer.tokens.special("<IMG_CONTEXT>"),
        image_seq_length=EACH,
        downsample_ratio=0.5,
    )
    return InternVLForConditionalGeneration(config).eval()


def draw_files(chance: random.Random) -> tuple[Attachment, ...]:
    """What a person might add: often nothing, one to three pictures, a video, or both."""
    pictures = [
        Attachment(f"{chance.choice('abc')}-1x{chance.choice([1, 2, 5])}", Kind.IMAGE, "p")
        for _ in range(chance.choice([0, 0, 1, 1, 2, 3]))
    ]
    video = Attachment(f"{chance.choice('ab')}-{chance.choice([2, 4])}x1", Kind.VIDEO, "v")
    files = pictures + ([video] if chance.random() < 0.2 else [])
    chance.shuffle(files)
    return tuple(files)
