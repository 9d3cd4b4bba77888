"""Writes the lean network's weights into transformers' own class and a checkpoint folder."""

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    Qwen2Config,
)

from training.network import DEVIATION, MEAN, Network, Shape
from training.system_prompts import OFFICIAL
from training.tokenizer import Codec


def describe_network(shape: Shape, codec: Codec) -> InternVLConfig:
    """The same sizes in transformers' words."""
    vision = InternVLVisionConfig(
        hidden_size=shape.vision_width,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        intermediate_size=shape.vision_inner,
        image_size=[shape.tile, shape.tile],
        patch_size=[shape.patch, shape.patch],
        layer_scale_init_value=1.0,
        attention_bias=False,
        layer_norm_eps=1e-6,
    )
    text = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.inner,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rotation_base},
        pad_token_id=codec.special["<|endoftext|>"],
        eos_token_id=codec.special["<|im_end|>"],
        bos_token_id=None,
    )
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=codec.special["<IMG_CONTEXT>"],
        image_seq_length=shape.tokens_per_tile,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
        system_message=OFFICIAL,
    )


def export(network: Network, codec: Codec) -> InternVLForConditionalGeneration:
    """transformers' model with the network's weights, in float32."""
    model = InternVLForConditionalGeneration(describe_network(network.shape, codec))
    weights = {name: value.detach().float() for name, value in network.named_parameters()}
    renamed = _rename_vision(weights, network.shape) | _rename_text(weights, network.shape)
    model.load_state_dict(renamed, strict=True)
    return model.eval()


def _rename_vision(weights: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    tower = "model.vision_tower"
    width, patch = shape.vision_width, shape.patch
    renamed = {
        f"{tower}.embeddings.cls_token": weights["first"],
        f"{tower}.embeddings.position_embeddings": weights["places"],
        f"{tower}.embeddings.patch_embeddings.projection.weight": weights["patch.weight"].view(
            width, 3, patch, patch
        ),
        f"{tower}.embeddings.patch_embeddings.projection.bias": weights["patch.bias"],
    }
    names = {
        "out": "attention.projection_layer",
        "up": "mlp.fc1",
        "down": "mlp.fc2",
        "before": "layernorm_before",
        "after": "layernorm_after",
    }
    for layer in range(shape.vision_layers):
        theirs, ours = f"{tower}.encoder.layer.{layer}", f"vision.{layer}"
        parts = weights[f"{ours}.qkv.weight"].chunk(3)
        for letter, part in zip("qkv", parts, strict=True):
            renamed[f"{theirs}.attention.{letter}_proj.weight"] = part
        for mine, name in names.items():
            for end in ("weight", "bias"):
                renamed[f"{theirs}.{name}.{end}"] = weights[f"{ours}.{mine}.{end}"]
        renamed[f"{theirs}.lambda_1"] = renamed[f"{theirs}.lambda_2"] = torch.ones(width)
    projector = {"project_norm": "layer_norm", "project_in": "linear_1", "project_out": "linear_2"}
    for mine, name in projector.items():
        for end in ("weight", "bias"):
            renamed[f"model.multi_modal_projector.{name}.{end}"] = weights[f"{mine}.{end}"]
    return renamed


def _rename_text(weights: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    model = "model.language_model"
    renamed = {
        f"{model}.embed_tokens.weight": weights["words.weight"],
        "lm_head.weight": weights["words.weight"],
        f"{model}.norm.weight": weights["text_norm.weight"],
    }
    for layer in range(shape.layers):
        theirs, ours = f"{model}.layers.{layer}", f"text.{layer}"
        for end in ("weight", "bias"):
            parts = weights[f"{ours}.qkv.{end}"].chunk(3)
            for letter, part in zip("qkv", parts, strict=True):
                renamed[f"{theirs}.self_attn.{letter}_proj.{end}"] = part
        gate, up = weights[f"{ours}.gate_up.weight"].chunk(2)
        renamed[f"{theirs}.mlp.gate_proj.weight"] = gate
        renamed[f"{theirs}.mlp.up_proj.weight"] = up
        renamed[f"{theirs}.mlp.down_proj.weight"] = weights[f"{ours}.down.weight"]
        renamed[f"{theirs}.self_attn.o_proj.weight"] = weights[f"{ours}.out.weight"]
        renamed[f"{theirs}.input_layernorm.weight"] = weights[f"{ours}.before.weight"]
        renamed[f"{theirs}.post_attention_layernorm.weight"] = weights[f"{ours}.after.weight"]
    return renamed


def save_checkpoint(network: Network, codec: Codec, folder: Path) -> None:
    """A folder that `from_pretrained` loads: bfloat16 weights, tokenizer, picture facts."""
    folder.mkdir(parents=True, exist_ok=True)
    export(network, codec).to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        source = codec.folder / name
        if source.resolve() != (folder / name).resolve():
            shutil.copyfile(source, folder / name)
    facts = {
        "generation_config.json": _generation_facts(codec),
        "preprocessor_config.json": _picture_facts(network.shape),
        "processor_config.json": {
            "image_seq_length": network.shape.tokens_per_tile,
            "processor_class": "InternVLProcessor",
        },
    }
    for name, content in facts.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _generation_facts(codec: Codec) -> dict[str, object]:
    ends = [codec.special["<|im_end|>"], codec.special["<|endoftext|>"]]
    return {
        "bos_token_id": None,
        "do_sample": False,
        "eos_token_id": ends,
        "pad_token_id": codec.special["<|endoftext|>"],
    }


def _picture_facts(shape: Shape) -> dict[str, object]:
    return {
        "crop_to_patches": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_processor_type": "GotOcr2ImageProcessor",
        "image_std": DEVIATION,
        "max_patches": 1,
        "min_patches": 1,
        "processor_class": "InternVLProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": shape.tile, "width": shape.tile},
    }
