"""What a loaded network is: where it lies, in what it computes, and whether that is exact."""

from transformers import InternVLForConditionalGeneration

from backend.local.quantization import quantization_of
from backend.planner.costs import Quantization


def exact(network: InternVLForConditionalGeneration) -> bool:
    """Whether tokens read in two goes come out as in one.

    LLM.int8() picks the columns that it multiplies in full from all rows at once
    (arXiv:2208.07339), so that what is read together changes every row.
    """
    return quantization_of(network) is not Quantization.INT8


def places_of(network: InternVLForConditionalGeneration) -> set[int | str]:
    """Where a network lies, as device maps say it: GPUs by number, "cpu", "disk"."""
    device_map = getattr(network, "hf_device_map", None)  # there is one for several places only
    if device_map is not None:
        return set(device_map.values())
    device = network.device
    return {device.index or 0 if device.type == "cuda" else device.type}


def precision_of(network: InternVLForConditionalGeneration) -> str:
    """In what a network computes, and how its matrices are stored if otherwise."""
    dtype = str(network.dtype).removeprefix("torch.")
    quantize = quantization_of(network)
    return f"{quantize} + {dtype}" if quantize else dtype
