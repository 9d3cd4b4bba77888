"""The bundled checkpoint for llama.cpp: GGUF files (version 3 of the format), written in a second.

llama.cpp's own converter takes the original layout alone, so the names of tensors and of settings
are those that it wrote for another tiny InternVL (b11434).
"""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

Value = str | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]
Tensors = Mapping[str, NDArray[np.float32]]
ALIGNED = 32  # bytes; the format's default
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, F32 = 4, 5, 6, 7, 8, 9, 0
NORMAL, CONTROL = 1, 3  # kinds of tokens
ENDLESS = 32_768  # tokens
FIRST_SIGN, RARE = 1524, 1400  # ids in the bundled tokenizer

LANGUAGE = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
VISION = {
    "attention.q_proj": "attn_q",
    "attention.k_proj": "attn_k",
    "attention.v_proj": "attn_v",
    "attention.projection_layer": "attn_out",
    "layernorm_before": "ln1",
    "layernorm_after": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
WHOLE = {
    "language_model.model.embed_tokens.weight": "token_embd.weight",
    "language_model.model.norm.weight": "output_norm.weight",
    "vision_tower.embeddings.cls_token": "v.class_embd",
    "vision_tower.embeddings.position_embeddings": "v.position_embd.weight",
    "vision_tower.embeddings.patch_embeddings.projection.weight": "v.patch_embd.weight",
    "vision_tower.embeddings.patch_embeddings.projection.bias": "v.patch_embd.bias",
    "multi_modal_projector.layer_norm": "mm.model.mlp.0",
    "multi_modal_projector.linear_1": "mm.model.mlp.1",
    "multi_modal_projector.linear_2": "mm.model.mlp.3",
}


def convert(checkpoint: Path, folder: Path, endless: bool = False) -> tuple[Path, Path]:
    """model.gguf and mmproj.gguf of an -hf checkpoint, in `folder`.

    An `endless` model never ends an answer and has room for a long one: Stop is tried on it.
    """
    config = json.loads((checkpoint / "config.json").read_text())
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text())
    weights = load_file(checkpoint / "model.safetensors")
    tensors = {rename(name): weight.float().numpy() for name, weight in weights.items()}
    sees = {name: tensor for name, tensor in tensors.items() if name.startswith(("v.", "mm."))}
    reads = {name: tensor for name, tensor in tensors.items() if name not in sees}
    if endless:
        config["text_config"]["max_position_embeddings"] = ENDLESS
        reads["output.weight"] = without_end(reads["token_embd.weight"])
    write(folder / "model.gguf", {**language(config["text_config"]), **words(tokenizer)}, reads)
    write(folder / "mmproj.gguf", vision(config), sees)
    return folder / "model.gguf", folder / "mmproj.gguf"


def without_end(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output layer of the tied `embedding`, in which signs are as unlikely as a rare word."""
    output = embedding.copy()
    output[FIRST_SIGN:] = embedding[RARE]
    return output


def rename(name: str) -> str:
    """A tensor's name in transformers → in llama.cpp."""
    for whole, other in WHOLE.items():
        if name == whole or name.startswith(whole + "."):
            return other + name.removeprefix(whole)
    for start, block, table in (
        ("language_model.model.layers.", "blk", LANGUAGE),
        ("vision_tower.encoder.layer.", "v.blk", VISION),
    ):
        if name.startswith(start):
            number, _, rest = name.removeprefix(start).partition(".")
            if rest.startswith("lambda_"):
                return f"{block}.{number}.ls{rest.removeprefix('lambda_')}.weight"
            part, _, kind = rest.rpartition(".")
            return f"{block}.{number}.{table[part]}.{kind}"
    raise KeyError(name)


def language(config: dict[str, object]) -> dict[str, Value]:
    """Settings of a Qwen2."""
    rope = config["rope_parameters"]
    assert isinstance(rope, dict)
    return {
        "general.architecture": "qwen2",
        "general.name": "bundled",
        "qwen2.block_count": int(str(config["num_hidden_layers"])),
        "qwen2.context_length": int(str(config["max_position_embeddings"])),
        "qwen2.embedding_length": int(str(config["hidden_size"])),
        "qwen2.feed_forward_length": int(str(config["intermediate_size"])),
        "qwen2.attention.head_count": int(str(config["num_attention_heads"])),
        "qwen2.attention.head_count_kv": int(str(config["num_key_value_heads"])),
        "qwen2.rope.freq_base": float(rope["rope_theta"]),
        "qwen2.attention.layer_norm_rms_epsilon": float(str(config["rms_norm_eps"])),
        "general.file_type": F32,
    }


def words(tokenizer: dict[str, dict[str, object]]) -> dict[str, Value]:
    """The vocabulary, the added tokens as control tokens."""
    vocabulary = tokenizer["model"]["vocab"]
    assert isinstance(vocabulary, dict)
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}  # type: ignore
    ids = dict(sorted({**vocabulary, **added}.items(), key=lambda item: item[1]))
    assert list(ids.values()) == list(range(len(ids)))
    merges = tokenizer["model"]["merges"]
    assert isinstance(merges, list)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": list(ids),
        "tokenizer.ggml.token_type": [CONTROL if word in added else NORMAL for word in ids],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.eos_token_id": ids["<|im_end|>"],
        "tokenizer.ggml.padding_token_id": ids["<|endoftext|>"],
        "tokenizer.ggml.add_bos_token": False,
    }


def vision(config: dict[str, dict[str, object]]) -> dict[str, Value]:
    """Settings of the vision tower and what is before it."""
    tower = config["vision_config"]
    side, patch = tower["image_size"], tower["patch_size"]
    assert isinstance(side, list) and isinstance(patch, list)
    return {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.file_type": F32,
        "clip.has_vision_encoder": True,
        "clip.vision.projection_dim": int(str(config["text_config"]["hidden_size"])),
        "clip.vision.image_size": int(side[0]),
        "clip.vision.patch_size": int(patch[0]),
        "clip.vision.embedding_length": int(str(tower["hidden_size"])),
        "clip.vision.feed_forward_length": int(str(tower["intermediate_size"])),
        "clip.vision.block_count": int(str(tower["num_hidden_layers"])),
        "clip.vision.attention.head_count": int(str(tower["num_attention_heads"])),
        "clip.vision.image_mean": [0.485, 0.456, 0.406],
        "clip.vision.image_std": [0.229, 0.224, 0.225],
        "clip.projector_type": "internvl",
        "clip.vision.attention.layer_norm_epsilon": float(str(tower["layer_norm_eps"])),
        "clip.use_gelu": True,
        "clip.vision.projector.scale_factor": 2,
        "clip.vision.preproc_min_tiles": 1,
        "clip.vision.preproc_max_tiles": 12,
    }


def write(path: Path, settings: Mapping[str, Value], tensors: Tensors) -> None:
    """A GGUF file: settings, the list of tensors, then their numbers."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(settings))
    head += b"".join(text(key) + typed(value) for key, value in settings.items())
    place = 0
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        head += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", F32, place)
        place += padded(tensor.nbytes)
    with path.open("wb") as stream:
        stream.write(head.ljust(padded(len(head)), b"\0"))
        for tensor in tensors.values():
            stream.write(np.ascontiguousarray(tensor, "<f4").tobytes().ljust(padded(tensor.nbytes)))


def padded(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def text(words: str) -> bytes:
    content = words.encode()
    return struct.pack("<Q", len(content)) + content


def typed(value: Value) -> bytes:
    """A setting with its type before it."""
    if not isinstance(value, str | bool | int | float):
        kind = {str: STRING, int: INT32, float: FLOAT32}[type(value[0])]
        content = b"".join(bare(kind, item) for item in value)
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + content
    kind = {str: STRING, bool: BOOL, int: UINT32, float: FLOAT32}[type(value)]
    return struct.pack("<I", kind) + bare(kind, value)


def bare(kind: int, value: str | bool | int | float) -> bytes:
    if isinstance(value, str):
        return text(value)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)
