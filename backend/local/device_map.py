"""A plan as the loader wants it: the device map of `from_pretrained`, refused when it cannot fit.

Pure, like the planner it stands for: importing it does not import torch.
"""

from backend.planner.advice import refuse_if_too_big
from backend.planner.card import card_layers
from backend.planner.plan import Plan

__all__ = ["card_layers", "make_device_map", "refuse_if_too_big"]

CUDA = "cuda:"


def make_device_map(plan: Plan) -> dict[str, int | str]:
    """The plan's map for `from_pretrained(device_map=…)`: GPUs by number, "cpu", "disk"."""
    return {
        module: int(name.removeprefix(CUDA)) if name.startswith(CUDA) else name
        for module, name in plan.device_map.items()
    }
