"""The original `internvl_chat` layout, read into transformers' own InternVL.

Its configuration is translated by hand and its weights are renamed and split while they load, by
transformers' weight conversion; no file is rewritten and no code of the checkpoint is run.
Names: convert_internvl_weights_to_hf.py of transformers and internvl_custom2hf.py of
OpenGVLab/InternVL @2410d1d.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import InternVLConfig
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.core_model_loading import Chunk, ConversionOps, WeightConverter, WeightRenaming

from backend.checkpoint.tokens import Tokens
from backend.errors import BadCheckpoint

CONTEXT = "<IMG_CONTEXT>"
FAMILY = "internvl"  # the model type whose weight mapping is extended
# InternVL3 has the first two, InternVL2.5 too, and InternVL3.5 the third.
LANGUAGE_MODELS = {
    "Qwen2ForCausalLM": "qwen2",
    "InternLM2ForCausalLM": "llama",
    "Qwen3ForCausalLM": "qwen3",
}
LANGUAGE_SETTINGS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "attention_bias",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "hidden_act",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
)
VISION_SETTINGS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
    "norm_type",
)
# What peft puts into names when a LoRA is saved beside its base (see `unmerged`).
UNWRAPPINGS = {
    r"^language_model\.base_model\.model\.": "language_model.",
    r"^vision_model\.base_model\.model\.": "vision_model.",
    r"\.base_layer\.": ".",
}
VISION_RENAMINGS = {
    r"^vision_model\.embeddings\.class_embedding": "model.vision_tower.embeddings.cls_token",
    r"^vision_model\.embeddings\.position_embedding": (
        "model.vision_tower.embeddings.position_embeddings"
    ),
    r"^vision_model\.embeddings\.patch_embedding": (
        "model.vision_tower.embeddings.patch_embeddings.projection"
    ),
    r"^vision_model\.encoder\.layers\.": "model.vision_tower.encoder.layer.",
    r"\.ls1": ".lambda_1",
    r"\.ls2": ".lambda_2",
    r"\.attn\.proj\.": ".attention.projection_layer.",
    r"\.attn\.q_norm\.": ".attention.q_norm.",
    r"\.attn\.k_norm\.": ".attention.k_norm.",
    r"\.norm1\.": ".layernorm_before.",
    r"\.norm2\.": ".layernorm_after.",
    r"^mlp1\.0\.": "model.multi_modal_projector.layer_norm.",
    r"^mlp1\.1\.": "model.multi_modal_projector.linear_1.",
    r"^mlp1\.3\.": "model.multi_modal_projector.linear_2.",
}
INTERNLM2_RENAMINGS = {
    r"^language_model\.model\.tok_embeddings": "model.language_model.embed_tokens",
    r"^language_model\.output": "lm_head",
    r"\.attention\.wo\.": ".self_attn.o_proj.",
    r"\.feed_forward\.w1\.": ".mlp.gate_proj.",
    r"\.feed_forward\.w2\.": ".mlp.down_proj.",
    r"\.feed_forward\.w3\.": ".mlp.up_proj.",
    r"\.attention_norm\.": ".input_layernorm.",
    r"\.ffn_norm\.": ".post_attention_layernorm.",
}


class SplitGrouped(ConversionOps):
    """Split InternLM2's fused `wqkv` into queries, keys and values.

    Its rows are, for each key/value head, the heads of its g queries, then the key, then the
    value: [kv heads, g + 2, head size, width].
    """

    def __init__(self, key_value_heads: int, group: int) -> None:
        self._shape = (key_value_heads, group + 2, -1)

    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        **_: Any,
    ) -> dict[str, Any]:
        """The three tensors under the names of `target_patterns`: queries, keys, values."""
        (fused,) = input_dict.values()
        fused = fused[0] if isinstance(fused, list) else fused
        group = self._shape[1] - 2
        heads = fused.unflatten(0, self._shape)  # [kv heads, g + 2, head size, …]
        parts = (heads[:, :group], heads[:, group : group + 1], heads[:, group + 1 :])
        return {
            name: part.flatten(0, 2).contiguous()
            for name, part in zip(target_patterns, parts, strict=True)
        }


def convert_config(config: Mapping[str, Any], tokens: Tokens) -> InternVLConfig:
    """The configuration as transformers' own class; raises `BadCheckpoint` for a foreign part."""
    vision, language = config["vision_config"], config["llm_config"]
    return InternVLConfig(
        vision_config={
            **{name: vision[name] for name in VISION_SETTINGS if name in vision},
            "model_type": "internvl_vision",
            "attention_bias": vision.get("qkv_bias", True),
            "use_qk_norm": vision.get("qk_normalization", False),
        },
        text_config=_convert_language(language),
        image_token_id=tokens.special(CONTEXT),
        downsample_ratio=config.get("downsample_ratio", 0.5),
        vision_feature_layer=config.get("select_layer", -1),
        # Never tied in this layout, while transformers' default is tied.
        tie_word_embeddings=False,
    )


@contextmanager
def original_layout(config: InternVLConfig) -> Iterator[None]:
    """While it lasts, transformers reads weights of this layout. Not safe for two loads at once."""
    native = get_checkpoint_conversion_mapping(FAMILY)
    rules = _rules(config.text_config)
    register_checkpoint_conversion_mapping(FAMILY, rules + native, overwrite=True)
    try:
        yield
    finally:
        register_checkpoint_conversion_mapping(FAMILY, native, overwrite=True)


def _convert_language(language: Mapping[str, Any]) -> dict[str, Any]:
    architecture = (language.get("architectures") or ["nothing"])[0]
    if architecture not in LANGUAGE_MODELS:
        raise BadCheckpoint(
            f"The language part of this checkpoint is {architecture}.",
            f"Only {', '.join(LANGUAGE_MODELS)} can be read from the original layout.",
        )
    settings = {name: language[name] for name in LANGUAGE_SETTINGS if name in language}
    rope = dict(language.get("rope_scaling") or {})
    rope_type = rope.pop("type", None) or rope.pop("rope_type", "default")
    rope |= {"rope_type": rope_type, "rope_theta": float(language["rope_theta"])}
    settings |= {"rope_parameters": rope, "tie_word_embeddings": False, "use_cache": True}
    if architecture == "InternLM2ForCausalLM":
        settings |= {"attention_bias": bool(language.get("bias", False))}
    return settings | {"model_type": LANGUAGE_MODELS[architecture]}


def _rules(text: Any) -> list[WeightRenaming | WeightConverter]:
    rules: list[WeightRenaming | WeightConverter]
    rules = [WeightRenaming(old, new) for old, new in VISION_RENAMINGS.items()]
    unwrap = [WeightRenaming(old, new) for old, new in UNWRAPPINGS.items()]
    split_vision = WeightConverter(
        r"\.attn\.qkv\.(?!lora_)",
        [".attention.q_proj.", ".attention.k_proj.", ".attention.v_proj."],
        [Chunk(dim=0)],
    )
    if text.model_type != "llama":
        return [*unwrap, *rules, split_vision]
    group = text.num_attention_heads // text.num_key_value_heads
    split_language = WeightConverter(
        r"\.attention\.wqkv\.(?!lora_)",
        [".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."],
        [SplitGrouped(text.num_key_value_heads, group)],
    )
    language = [WeightRenaming(old, new) for old, new in INTERNLM2_RENAMINGS.items()]
    return [*unwrap, *language, *rules, split_vision, split_language]
