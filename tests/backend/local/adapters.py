"""Random LoRA adapters as people's training leaves them, and the same merged by hand.

Made from the names in a checkpoint's own files, so that nothing of the program under test says
what a module is called.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

TARGETS = re.compile(
    r"\.(attn\.(qkv|proj)|mlp\.fc[12]"  # InternVL's scripts: vision,
    r"|attention\.(wqkv|wo)|feed_forward\.w[123]"  # InternLM2,
    r"|self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj"  # and Qwen2
    r"|attention\.([qkv]_proj|projection_layer))\.weight$"  # transformers' vision
)
RANK, ALPHA = 5, 20
STRENGTH = 0.08  # enough to change answers of random weights


def draw_pairs(weights: dict[str, torch.Tensor], seed: int = 1) -> dict[str, Any]:
    """A random change for each matrix that training touches: down and up by module."""
    random = torch.Generator().manual_seed(seed)

    def draw(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=random) * STRENGTH

    return {
        name.removesuffix(".weight"): (draw(RANK, w.shape[1]), draw(w.shape[0], RANK))
        for name, w in weights.items()
        if TARGETS.search(name)
    }


def save_adapter(
    folder: Path, pairs: dict[str, Any], call: Callable[[str], str] = str, **config: Any
) -> Path:
    """As peft saves it; `call` tells what a module was called where it was trained."""
    folder.mkdir(parents=True)
    tensors = {}
    for module, halves in pairs.items():
        for half, values in zip("AB", halves, strict=True):
            name = f"base_model.model.{call(module)}.lora_{half}.weight"
            tensors[name] = values.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    plain = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": sorted({call(module).split(".")[-1] for module in pairs}),
    }
    (folder / "adapter_config.json").write_text(json.dumps(plain | config))
    return folder


def merge_by_hand(source: Path, folder: Path, pairs: dict[str, Any], scale: float) -> Path:
    """A copy of a checkpoint whose matrices have the changes in them."""
    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    for module, (down, up) in pairs.items():
        weights[f"{module}.weight"] += scale * up @ down
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def leave_unmerged(source: Path, folder: Path, pairs: dict[str, Any]) -> Path:
    """A checkpoint as InternVL's `wrap_llm_lora` and `wrap_backbone_lora` make `save` leave it."""
    shutil.copytree(source, folder)
    saved = {}
    for name, values in load_file(folder / "model.safetensors").items():
        module, _, kind = name.rpartition(".")
        inside = re.sub(r"^(language|vision)_model\.", r"\1_model.base_model.model.", module)
        between = ".base_layer" if module in pairs else ""
        saved[f"{inside}{between}.{kind}"] = values
        if module in pairs and kind == "weight":
            for half, part in zip("AB", pairs[module], strict=True):
                saved[f"{inside}.lora_{half}.default.weight"] = part
    save_file(saved, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    ranks = {"use_llm_lora": RANK, "use_backbone_lora": RANK}
    (folder / "config.json").write_text(json.dumps(config | ranks), "utf-8")
    return folder
