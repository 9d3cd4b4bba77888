"""Loading: from a name to a model on a device, telling how much is done.

Only safetensors, and never code from a checkpoint: both layouts go into transformers' own
`InternVLForConditionalGeneration`. Imported by the worker's thread alone, since torch is slow
to import.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import InternVLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from backend.checkpoint.facts import Layout
from backend.checkpoint.files import called, read_json
from backend.checkpoint.find import find_checkpoint
from backend.checkpoint.tokens import Tokens
from backend.errors import BadCheckpoint
from backend.local.adapter import Adapter, apply_adapter, read_adapter
from backend.local.choices import decide, refuse_question, told_free
from backend.local.devices import find_machine, free_on
from backend.local.memory.room import host_bytes, kept_bytes
from backend.local.model import LocalModel
from backend.local.original import convert_config, original_layout
from backend.local.placement import Placement
from backend.local.quantization import configure
from backend.local.rows import rows_fit
from backend.local.stages import Report, Share, Stages
from backend.local.together.size import fit, places_on
from backend.local.unmerged import is_unmerged, read_own_adapter
from backend.local.warming import warm_up_compiled
from backend.planner.configs import read_shape
from backend.planner.devices import DISK
from backend.planner.shapes import Shape
from backend.prompt.compose import Composer
from backend.settings import AUTO, Settings

# transformers keeps its progress hook and its weight mappings per process, not per load.
LOADING = threading.Lock()
# Weights of other parts, as InternVL3.5-Flash has, would be left out without a word.
PARTS = ("model", "lm_head", "language_model", "vision_model", "vision_tower", "mlp1")
THREADS = torch.get_num_threads()  # as torch begins, before a model was loaded
PLACED = 0.97  # of the whole; the rest is for warming up
PLACING = "Loading weights"  # how transformers 5.24 calls its loop over parameters


def load_checkpoint(settings: Settings, composer: Composer, report: Report) -> LocalModel:
    """The model, placed as planned; `report` is told the share done and may raise to stop.

    Raises `OutOfMemory` and `BadSetting` before any weights are fetched or read, and
    `BadCheckpoint` for weights that are missing, incomplete or of another shape.
    """
    facts = composer.facts
    shape = read_shape(facts.folder, facts.name)
    choices = decide(settings, shape, find_machine())
    on_host = host_bytes(settings.host_cache_gb, choices.plan)
    stages = Stages(report)
    if choices.on_processor:
        spare_a_core()
    network = load_adapted(settings, composer, shape, choices.placement, stages, PLACED)
    model = LocalModel(
        network,
        facts,
        composer.tokens,
        partial(refuse_question, choices.plan),
        kept_bytes(settings.cache_gb, choices.plan, told_free(choices.plan)),
        on_host,
    )
    model.open_batching(settings.batching, fit(choices.plan, facts.context_length, free_on))
    if settings.side_by_side and settings.batching == AUTO and choices.is_spread:
        places = places_on(choices.plan.machine.workers[0].name)
        model.open_rows(places, partial(rows_fit, choices.plan, free_on))
    warm_up_compiled(model, settings.compile, facts, composer.tokens)
    stages.place(1.0)
    return model


def load_adapted(
    settings: Settings,
    composer: Composer,
    shape: Shape,
    placement: Placement,
    stages: Stages,
    share: float = 1.0,
) -> InternVLForConditionalGeneration:
    """The network of a checkpoint with its adapters, its own and the chosen one.

    `share` is how much of the loading is done then. Raises as `load_checkpoint` does.
    """
    chosen = [read_adapter(Path(settings.adapter).expanduser(), shape)] if settings.adapter else []
    folder = find_checkpoint(settings.model, settings.revision, follow=stages.follow)
    network = load_network(
        folder,
        composer.facts.layout,
        composer.tokens,
        placement,
        lambda placed: stages.place(share * placed),
    )
    for adapter in (*_own_adapters(folder, shape), *chosen):
        apply_adapter(network, adapter)
    return network


def load_network(
    folder: Path, layout: Layout, tokens: Tokens, placement: Placement, report: Share
) -> InternVLForConditionalGeneration:
    """The network of a checkpoint in either layout, in evaluation mode."""
    with LOADING, progress_told_to(report), ExitStack() as kept:
        store = None
        if DISK in placement.device_map.values():
            store = kept.enter_context(TemporaryDirectory(prefix="internvl3-"))
        network = _read_network(folder, layout, tokens, placement, store)
        weakref.finalize(network, kept.pop_all().close)  # the store lives as long
        return network


def _read_network(
    folder: Path, layout: Layout, tokens: Tokens, placement: Placement, store: str | None
) -> InternVLForConditionalGeneration:
    choices: dict[str, Any] = {}
    with ExitStack() as stack:
        if layout is Layout.ORIGINAL:
            config = read_json(folder / "config.json")
            choices["config"] = convert_config(config, tokens)
            stack.enter_context(original_layout(choices["config"]))
        loaded: Any = InternVLForConditionalGeneration.from_pretrained(
            folder,
            dtype=placement.dtype,
            attn_implementation=placement.attention,
            device_map=dict(placement.device_map),
            offload_folder=store,
            quantization_config=configure(placement),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, in words
            **choices,
        )
    network, told = loaded
    _require_all(folder, told)
    placed: InternVLForConditionalGeneration = network.eval()
    return placed


def _has_lora(keys: Iterable[str]) -> bool:
    return any(".lora_" in key for key in keys)


def _own_adapters(folder: Path, shape: Shape) -> list[Adapter]:
    """What fine-tuning left unmerged in a checkpoint."""
    unmerged = is_unmerged(read_json(folder / "config.json"))
    return [read_own_adapter(folder, shape)] if unmerged else []


def spare_a_core() -> None:
    """Leave one core to the page and to those who prepare.

    torch's threads wait for each other by spinning: with as many as cores, anything else that
    runs makes every step wait (2 busy cores: 12 ms a token with one thread, 170 ms with two).
    """
    torch.set_num_threads(max(1, THREADS - 1))


@contextmanager
def progress_told_to(report: Share) -> Iterator[None]:
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


def _counted(items: Iterable[Any], report: Share) -> Iterator[Any]:
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
            f"{len(odd)} weights in {called(folder)} have another shape than its config.json says, "
            f"{odd[0]} among them.",
            "The files are of two checkpoints: download it again.",
        )
    if not is_unmerged(read_json(folder / "config.json")) and _has_lora(told["unexpected_keys"]):
        raise BadCheckpoint(
            f"{called(folder)} has a LoRA beside its weights, and its config.json tells of none.",
            "Merge it where it was trained.",
        )
    foreign = sorted(key for key in told["unexpected_keys"] if key.split(".")[0] not in PARTS)
    if foreign:
        raise BadCheckpoint(
            f"{called(folder)} has a part that this program does not know ({foreign[0]}).",
            "Give a checkpoint of InternVL2.5, 3 or 3.5 itself, not of a variant of it.",
        )
    missing = sorted(told["missing_keys"])
    if missing:
        raise BadCheckpoint(
            f"{called(folder)} lacks {len(missing)} weights, {missing[0]} among them.",
            "Download the checkpoint again.",
        )
