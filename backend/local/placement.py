"""How a network is to be loaded, in transformers' terms. Plain values; knows no machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from backend.planner.costs import Quantization
from backend.planner.devices import CPU


@dataclass(frozen=True, slots=True)
class Placement:
    """What `from_pretrained` is told; by default everything goes to the processor."""

    dtype: torch.dtype
    attention: str = "sdpa"
    quantize: Quantization | None = None
    device_map: Mapping[str, int | str] = field(default_factory=lambda: {"": CPU})
