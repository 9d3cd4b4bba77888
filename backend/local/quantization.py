"""Quantised loading by bitsandbytes, which a person installs if they want it.

Only matrices of decoder layers are quantised: those of the vision tower, the projector, the
embeddings and the head keep their dtype, since errors there reach every token.
"""

import logging
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils.import_utils import is_bitsandbytes_available

from backend.errors import BadSetting
from backend.local.placement import Placement
from backend.planner.costs import NF4_BLOCK, Quantization
from backend.planner.devices import CPU, Device
from backend.planner.shapes import EMBEDDINGS, HEAD, PROJECTOR, VISION, TextShape

INSTALL = "pip install bitsandbytes==0.50.2"
# bitsandbytes' classes of parameters, by name, since it may not be there.
STORED_AS = {"Int8Params": Quantization.INT8, "Params4bit": Quantization.NF4}
# Whole paths: transformers compares from the start of a module's path, or its end, and silently
# quantises what a bare `vision_tower` was meant to spare.
SPARED = [VISION, PROJECTOR, EMBEDDINGS, HEAD]


def require_quantizer(
    quantize: Quantization, text: TextShape, worker: Device, offload: bool
) -> None:
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
    widths = (text.hidden, text.heads * text.head_dim, text.ffn)
    odd = [width for width in widths if width % NF4_BLOCK]
    if quantize is Quantization.NF4 and worker.name == CPU and odd:
        # bitsandbytes 0.50.2 repacks rows for the processor, whole blocks at a time.
        raise BadSetting(
            f"On the processor nf4 needs matrices whose width is a multiple of {NF4_BLOCK}, "
            f"and this model has some of {odd[0]}.",
            "Use --quantize int8.",
        )
    if not is_bitsandbytes_available():
        raise BadSetting(
            f"--quantize {quantize} needs bitsandbytes, which is not installed.",
            f"Install it ({INSTALL}), or leave --quantize out.",
        )


def configure(placement: Placement) -> BitsAndBytesConfig | None:
    """What `from_pretrained(quantization_config=…)` wants, `None` for weights as they are."""
    if placement.quantize is None:
        return None
    # It warns of the same cast at every multiplication, which is every matrix and token.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    choices: dict[str, Any] = {"load_in_8bit": True}
    if placement.quantize is Quantization.NF4:
        choices = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": False,  # as the planner counts
            "bnb_4bit_compute_dtype": placement.dtype,
        }
    return BitsAndBytesConfig(
        llm_int8_skip_modules=SPARED,
        # Spares what lies in a store, in any dtype. It would spare all of a model that computes
        # on the processor.
        llm_int8_enable_fp32_cpu_offload=len(set(placement.device_map.values())) > 1,
        **choices,
    )


def quantization_of(network: torch.nn.Module) -> Quantization | None:
    """How the weights of a loaded network are stored, whatever was asked for."""
    kinds = {type(parameter).__name__ for parameter in network.parameters()}
    return next((quantize for name, quantize in STORED_AS.items() if name in kinds), None)
