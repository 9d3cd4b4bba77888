"""Adapters of any size without their numbers: a configuration, and the header of the weights."""

import json
import struct
from pathlib import Path


def write_lora(folder: Path, layers: int, rank: int, rows: int, columns: int) -> Path:
    """A change of one matrix of so many rows and columns in each decoder layer."""
    sizes = {"lora_A": [rank, columns], "lora_B": [rows, rank]}
    tensors = {
        f"base_model.model.layers.{layer}.mlp.up_proj.{half}.weight": {
            "dtype": "BF16",
            "shape": size,
            "data_offsets": [0, 0],
        }
        for layer in range(layers)
        for half, size in sizes.items()
    }
    header = json.dumps(tensors).encode()
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
