"""A LoRA adapter's files as peft writes them: what its configuration says, and how large it is.

Opens no weights: sizes come from the header of the safetensors file. What is done with an adapter
is the business of `backend.local.adapter`, what it costs that of `backend.planner.adapters`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.checkpoint.files import read_header, read_json
from backend.errors import BadCheckpoint

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Those that leave the base as it is; others, as "pissa", change what an adapter is added to.
INITIALISATIONS = (True, False, "gaussian", "eva", "orthogonal")
# Settings of peft 0.21 under which an adapter is more than a sum, or of other things than modules.
OTHER_KINDS = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "alora_invocation_tokens",
    "layer_replication",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
)
RETRAIN = "Merge it into its checkpoint where it was trained, and give that as --model."


def read_lora_config(folder: Path) -> Mapping[str, Any]:
    """The configuration of the plain LoRA in `folder`; raises `BadCheckpoint` for another kind,
    and for files that are missing."""
    config = read_json(folder / CONFIG)
    if not config:
        raise _no_adapter(folder)
    if config.get("peft_type") != "LORA":
        kind = config.get("peft_type")
        raise BadCheckpoint(f"{folder} is an adapter of the kind {kind}, not LoRA.", RETRAIN)
    others = [name for name in OTHER_KINDS if config.get(name)]
    if others:
        raise BadCheckpoint(f"{folder} is more than a plain LoRA ({others[0]}).", RETRAIN)
    begun = config.get("init_lora_weights", True)
    if begun not in INITIALISATIONS:
        raise BadCheckpoint(
            f"{folder} was begun with {begun!r}, which changes the checkpoint itself.", RETRAIN
        )
    if not isinstance(config.get("lora_alpha"), int | float):
        raise BadCheckpoint(f"{folder / CONFIG} has no lora_alpha.", "Copy the adapter anew.")
    if not (folder / WEIGHTS).is_file():
        raise _no_weights(folder)
    return config


def read_lora_sizes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The size of every tensor of the plain LoRA in `folder`, by the key it is saved under.

    Raises `BadCheckpoint` for what is no plain LoRA, and for a broken file.
    """
    read_lora_config(folder)
    try:
        return read_header(folder / WEIGHTS).sizes
    except ValueError as error:
        raise BadCheckpoint(
            f"{folder / WEIGHTS} cannot be read.", "Copy the adapter anew."
        ) from error


def _no_adapter(folder: Path) -> BadCheckpoint:
    if not folder.is_dir():
        return BadCheckpoint(f"There is no folder {folder}.", "Give the folder of an adapter.")
    if (folder / "config.json").is_file():
        return BadCheckpoint(
            f"{folder} is a whole checkpoint, not an adapter.", "Give it as --model."
        )
    return BadCheckpoint(f"{folder} has no {CONFIG}.", "Give the folder of a LoRA adapter.")


def _no_weights(folder: Path) -> BadCheckpoint:
    if (folder / "adapter_model.bin").is_file():
        return BadCheckpoint(
            f"{folder} holds only weights that run code when opened (adapter_model.bin).",
            f"Save it as {WEIGHTS}.",
        )
    return BadCheckpoint(f"{folder} has no {WEIGHTS}.", "Copy the adapter anew.")
