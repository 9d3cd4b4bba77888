"""Quantised loading by bitsandbytes, which a person installs if they want it.

Only matrices of decoder layers are quantised: those of the vision tower, the projector, the
embeddings and the head keep their dtype, since errors there reach every token.
"""

from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils.import_utils import is_bitsandbytes_available

from backend.errors import BadSetting
from backend.planner.costs import Quantization
from backend.planner.devices import CPU, Device
from backend.planner.shapes import EMBEDDINGS, HEAD, PROJECTOR, VISION

INSTALL = "pip install bitsandbytes==0.50.2"
# Whole paths: transformers compares from the start of a module's path, or its end, and silently
# quantises what a bare `vision_tower` was meant to spare.
SPARED = [VISION, PROJECTOR, EMBEDDINGS, HEAD]


def require_quantizer(quantize: Quantization, worker: Device, offload: bool) -> None:
    """Raise `BadSetting`, with the reason, when a model on `worker` cannot be quantised."""
    if worker.name != CPU and not worker.name.startswith("cuda"):
        raise BadSetting(
            f"--quantize {quantize} works on NVIDIA GPUs and the processor, not on {worker.name}.",
            "Leave --quantize out, or add --strategy cpu.",
        )
    if offload and worker.name == CPU:
        raise BadSetting(
            "On the processor a model is either quantised or offloaded.",
            "Leave out --quantize or --offload.",
        )
    if not is_bitsandbytes_available():
        raise BadSetting(
            f"--quantize {quantize} needs bitsandbytes, which is not installed.",
            f"Install it ({INSTALL}), or leave --quantize out.",
        )


def configure(quantize: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    """What `from_pretrained(quantization_config=…)` wants; matrices are multiplied in `dtype`."""
    choices: dict[str, Any] = {"load_in_8bit": True}
    if quantize is Quantization.NF4:
        choices = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": False,  # as the planner counts
            "bnb_4bit_compute_dtype": dtype,
        }
    return BitsAndBytesConfig(
        llm_int8_skip_modules=SPARED,
        # Layers that lie in a store stay as they are, in `dtype`, whatever the option's name says.
        llm_int8_enable_fp32_cpu_offload=True,
        **choices,
    )


def quantization_of(network: Any) -> Quantization | None:
    """How the weights of a loaded network are stored."""
    if getattr(network, "is_loaded_in_8bit", False):
        return Quantization.INT8
    return Quantization.NF4 if getattr(network, "is_loaded_in_4bit", False) else None
