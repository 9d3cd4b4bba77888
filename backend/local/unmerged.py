"""A checkpoint as InternVL's fine-tuning leaves it: its base and its LoRA side by side.

Its configuration says so by `use_llm_lora` and `use_backbone_lora`, the ranks; the scripts count
such changes twice their rank over their rank (`wrap_llm_lora`, `wrap_backbone_lora` and
tools/merge_lora.py of OpenGVLab/InternVL @2410d1d). Here it is loaded without being merged first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.local.adapter import Adapter, assemble, read_tensors
from backend.planner.shapes import Shape

RANKS = ("use_llm_lora", "use_backbone_lora")
SCALE = 2.0  # lora_alpha = 2 r


def is_unmerged(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint of this configuration keeps its LoRA beside its base."""
    return any(config.get(name) for name in RANKS)


def read_own_adapter(folder: Path, shape: Shape) -> Adapter:
    """The LoRA among the weights of a checkpoint; raises `BadCheckpoint` if there is none."""
    tensors = {
        key: tensor
        for file in sorted(folder.glob("*.safetensors"))
        for key, tensor in read_tensors(file, lambda key: ".lora_" in key)
    }
    return assemble(shape.name, tensors, shape, lambda module, rank: SCALE)
