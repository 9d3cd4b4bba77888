"""What a LoRA costs that stays beside its matrices, told from the sizes of its tensors alone.

A change is merged where a matrix can be added to, and costs nothing then. Beside quantised
matrices, and beside those that lie in a store, both its halves stay where the matrix computes.
Whether an adapter belongs to the checkpoint at all is not seen here.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from backend.checkpoint.lora import read_lora_sizes
from backend.planner.shapes import Parameters, Shape, list_decoder_layer, list_vision_layer

HALF = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])(\.default)?\.weight")
DECODER_LAYER = re.compile(r"\.layers\.(\d+)\.")
SIGHT = re.compile(r"vision_(model|tower)\.|mlp1\.|multi_modal_projector\.")
FUSED = (".attn.qkv", ".attention.wqkv")  # three matrices here, each with a `down` of its own


@dataclass(frozen=True, slots=True)
class Beside:
    """Numbers of low-rank changes: beside the decoder layer that has most of them, and beside
    the vision tower with its projector."""

    layer: int = 0
    vision: int = 0

    def __add__(self, other: "Beside") -> "Beside":
        return Beside(self.layer + other.layer, self.vision + other.vision)


NOTHING = Beside()


def measure_adapter(folder: Path | None) -> Beside:
    """What the adapter in `folder` would leave beside a model; nothing without one.

    Raises `BadCheckpoint` for files that are missing or broken, and for another kind than LoRA.
    """
    return NOTHING if folder is None else measure(read_lora_sizes(folder))


def measure(sizes: Mapping[str, tuple[int, ...]]) -> Beside:
    """The same for tensors of these sizes, by the names they were saved under."""
    layers: Counter[str] = Counter()
    vision = 0
    for key, size in sizes.items():
        if (half := HALF.fullmatch(key)) is None:
            continue
        fused = half["module"].endswith(FUSED) and half["half"] == "A"
        numbers = prod(size) * (3 if fused else 1)
        if SIGHT.search(key):
            vision += numbers
        elif (layer := DECODER_LAYER.search(key)) is not None:
            layers[layer[1]] += numbers
    return Beside(max(layers.values(), default=0), vision)


def measure_own(shape: Shape) -> Beside:
    """What fine-tuning left unmerged in a checkpoint: changes to all matrices of all layers."""
    layer = shape.own_rank * _sides(list_decoder_layer(shape.text))
    tower = shape.own_vision_rank * _sides(list_vision_layer(shape.vision))
    return Beside(layer, tower * shape.vision.layers)


def _sides(parameters: Parameters) -> int:
    """Rows and columns of all matrices together."""
    return sum(sum(size) for size in parameters.values() if len(size) == 2)
