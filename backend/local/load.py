"""Loading: from a name to a model on a device, telling how much is done.

Only safetensors, and never code from a checkpoint: both layouts go into transformers' own
`InternVLForConditionalGeneration`. Imported by the worker's thread alone, since torch is slow
to import.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import InternVLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from backend.checkpoint.facts import Layout
from backend.checkpoint.files import read_json
from backend.checkpoint.find import find_checkpoint
from backend.checkpoint.tokenizer import Tokens
from backend.errors import BadCheckpoint
from backend.local.model import LocalModel
from backend.local.original import convert_config, original_layout
from backend.prompt.compose import Composer
from backend.settings import Settings

Report = Callable[[float], None]
# transformers keeps its progress hook and its weight mappings per process, not per load.
LOADING = threading.Lock()
PLACING = "Loading weights"  # how transformers 5.24 calls its loop over parameters


def load_checkpoint(settings: Settings, composer: Composer, report: Report) -> LocalModel:
    """The model on the best device here; `report` is told the share done and may raise to stop.

    Raises `BadCheckpoint` for weights that are missing, incomplete or of another shape.
    """
    folder = find_checkpoint(settings.model)
    device = choose_device()
    if device.type == "cpu":
        spare_a_core()
    dtype = choose_dtype(device, saved_dtype(folder), count_bytes(folder))
    network = load_network(folder, composer.facts.layout, composer.tokens, device, dtype, report)
    return LocalModel(network, composer.facts, composer.tokens)


def load_network(
    folder: Path,
    layout: Layout,
    tokens: Tokens,
    device: torch.device,
    dtype: torch.dtype,
    report: Report,
) -> InternVLForConditionalGeneration:
    """The network of a checkpoint in either layout, in evaluation mode."""
    choices: dict[str, Any] = {}
    with LOADING, ExitStack() as stack:
        stack.enter_context(progress_told_to(report))
        if layout is Layout.ORIGINAL:
            config = read_json(folder / "config.json")
            choices["config"] = convert_config(config, tokens)
            stack.enter_context(original_layout(choices["config"]))
        loaded: Any = InternVLForConditionalGeneration.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, in words
            **choices,
        )
    network, told = loaded
    _require_all(folder, told)
    placed: InternVLForConditionalGeneration = network.to(device).eval()
    return placed


def choose_device() -> torch.device:
    """The GPU with most room, Apple's, or the processor."""
    if torch.cuda.is_available():
        free = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
        return torch.device("cuda", free.index(max(free)))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(device: torch.device, saved: torch.dtype, saved_bytes: int) -> torch.dtype:
    """The precision that pays on a device, for weights of so many bytes as they were saved.

    On a processor float32 was as quick as bfloat16 or quicker at every size tried (matrices of
    the 1B, 2B and 8B, AVX-512 with bf16 instructions, torch 2.13), so only memory speaks for less.
    """
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.float32 if saved_bytes * 4 // saved.itemsize <= memory() // 2 else saved


def spare_a_core() -> None:
    """Leave one core to the page and to those who prepare.

    torch's threads wait for each other by spinning: with as many as cores, anything else that
    runs makes every step wait (2 busy cores: 12 ms a token with one thread, 170 ms with two).
    """
    torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def memory() -> int:
    """Bytes of memory of this machine; 0 where the system does not tell."""
    if not hasattr(os, "sysconf"):
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def count_bytes(folder: Path) -> int:
    """Bytes of all weights in `folder`."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def saved_dtype(folder: Path) -> torch.dtype:
    """The precision of the weights as the configuration tells it; float32 when it does not."""
    config = read_json(folder / "config.json")
    dtype = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


@contextmanager
def progress_told_to(report: Report) -> Iterator[None]:
    """Have transformers tell `report` the share of placed weights instead of drawing bars."""

    def follow(draw: Callable[..., Any], args: tuple[Any, ...], choices: dict[str, Any]) -> Any:
        if choices.get("desc") == PLACING and args:
            return _counted(args[0], report)
        return draw(*args, **(choices | {"disable": True}))

    previous = transformers_logging.set_tqdm_hook(follow)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)


def _counted(items: Iterable[Any], report: Report) -> Iterator[Any]:
    listed = list(items)
    for done, item in enumerate(listed):
        report(done / len(listed))
        yield item
    report(1.0)


def _require_all(folder: Path, told: dict[str, Any]) -> None:
    """transformers fills gaps with random numbers; an answer from those would be nonsense."""
    if told["mismatched_keys"]:
        odd = sorted(str(key[0]) for key in told["mismatched_keys"])
        raise BadCheckpoint(
            f"{len(odd)} weights in {folder} have another shape than its config.json says, "
            f"{odd[0]} among them.",
            "The files are of two checkpoints: download it again.",
        )
    missing = sorted(told["missing_keys"])
    if missing:
        raise BadCheckpoint(
            f"{folder} lacks {len(missing)} weights, {missing[0]} among them.",
            "Download the checkpoint again.",
        )
