"""Which attention a model is loaded with: what the person wants, or the best that works here.

sdpa works everywhere. Flash attention is a package of its own that needs an NVIDIA GPU of some
generation and half precision. Asks torch for GPUs; knows no model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from backend.errors import BadSetting
from backend.planner.costs import Dtype
from backend.planner.devices import Device
from backend.settings import AUTO

SDPA = "sdpa"


@dataclass(frozen=True, slots=True)
class Flash:
    """A flash attention: its package, whether that is there, and GPUs by compute capability."""

    package: str
    is_installed: Callable[[], bool]
    generations: range
    gpus: str  # the same in words


# The better first. FlashAttention 3 was written for Hopper and runs on nothing else; 2 needs
# Ampere or newer (their READMEs).
FLASHES = {
    "flash_attention_3": Flash("flash-attn-3", is_flash_attn_3_available, range(9, 10), "Hopper"),
    "flash_attention_2": Flash(
        "flash-attn", is_flash_attn_2_available, range(8, 100), "Ampere or newer"
    ),
}


def choose_attention(wanted: str, workers: tuple[Device, ...], dtype: Dtype) -> str:
    """The attention for a model in `dtype` on `workers`.

    Raises `BadSetting` with the reason when what is wanted cannot work there.
    """
    if wanted == AUTO:
        return next((name for name in FLASHES if not why_not(name, workers, dtype)), SDPA)
    reason = why_not(wanted, workers, dtype) if wanted in FLASHES else ""
    if reason:
        raise BadSetting(f"--attention {wanted} cannot work here: {reason}.", "Choose auto.")
    return wanted


def why_not(name: str, workers: tuple[Device, ...], dtype: Dtype) -> str:
    """What a flash attention lacks here, in a clause; "" if nothing."""
    flash = FLASHES[name]
    others = [worker.name for worker in workers if not worker.name.startswith("cuda")]
    if others:
        return f"it needs an NVIDIA GPU, and the model goes to {others[0]}"
    if dtype is Dtype.FLOAT32:
        return "it computes in bfloat16 and float16, not in float32"
    if not flash.is_installed():
        return f"{flash.package} is not installed (pip install {flash.package})"
    for worker in workers:
        if torch.cuda.get_device_capability(worker.name)[0] not in flash.generations:
            gpu = torch.cuda.get_device_name(worker.name)
            return f"it needs GPUs of the generation {flash.gpus}, and {worker.name} is {gpu}"
    return ""
