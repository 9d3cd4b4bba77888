"""LoRA adapters: read as peft writes them, put onto transformers' own InternVL.

    folder of an adapter  ──▶  Adapter: low-rank changes by module  ──▶  merged, or attached

Adapters name modules as they were called where they were trained: in the original layout
(InternVL's scripts, ms-swift) or in transformers' (ms-swift on -hf). Both come out under
transformers' names, the parts of fused matrices one by one. A change is two small matrices, so
peft itself is not needed to add it. Whether everything fits is seen from the configuration,
before weights of the model are read.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from backend.checkpoint.lora import WEIGHTS, read_lora_config
from backend.errors import BadCheckpoint
from backend.local.naming import Parts, rename
from backend.planner.shapes import LAYERS, VISION, Parameters, Shape

WRAPPING = "base_model.model."
PAIR = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])(\.default)?\.weight")
KEPT_WHOLE = re.compile(r"\.(modules_to_save(\.default)?|base_layer)(?=\.)")
LAYER = re.compile(rf"({re.escape(LAYERS)}|{re.escape(VISION)}\.encoder\.layer)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Change:
    """What is added to one matrix: `scale` · up [rows, rank] · down [rank, columns]."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float

    @property
    def matrix(self) -> torch.Tensor:
        """The sum's second part, in float32."""
        return self.scale * (self.up.float() @ self.down.float())


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter, by the names of transformers' InternVL."""

    name: str  # as a person knows it
    changes: Mapping[str, Change]  # of modules
    whole: Mapping[str, torch.Tensor] = field(default_factory=dict)  # parameters it replaces


def read_adapter(folder: Path, shape: Shape) -> Adapter:
    """The adapter in `folder`, made for a checkpoint of this shape.

    Raises `BadCheckpoint` for files that are missing or broken, for kinds of adapters that are
    not plain LoRA, and for one that was made for another checkpoint.
    """
    name = folder.resolve().name
    config = read_lora_config(folder)
    tensors = dict(read_tensors(folder / WEIGHTS, lambda key: True))
    adapter = assemble(name, tensors, shape, Scaling(config).scale)
    _require_every_layer(adapter, shape, config)
    return adapter


def assemble(
    name: str,
    tensors: Mapping[str, torch.Tensor],
    shape: Shape,
    scale: Callable[[str, int], float],
) -> Adapter:
    """The adapter that saved tensors make; `scale` tells how much a module's change of a rank
    counts. Raises `BadCheckpoint` for what the checkpoint has no place for."""
    halves: dict[str, dict[str, torch.Tensor]] = {}
    whole: dict[str, torch.Tensor] = {}
    changes: dict[str, Change] = {}
    try:
        for key, tensor in tensors.items():
            if (pair := PAIR.fullmatch(key)) is not None:
                halves.setdefault(pair["module"], {})[pair["half"]] = tensor
            else:
                whole |= rename(KEPT_WHOLE.sub("", key), tensor, shape.text)
        for module, found in halves.items():
            if len(found) != 2:
                raise BadCheckpoint(f"Half of {module} is missing in {name}.", "Copy it anew.")
            changes |= _changes_of(module, found["A"], found["B"], shape, scale)
    except (RuntimeError, ValueError) as error:  # rows that do not divide as a fused matrix's
        raise _another_base(name, shape, "its fused matrices are of other sizes.") from error
    _require_places(name, changes, whole, shape)
    if not changes:
        raise BadCheckpoint(f"{name} changes nothing.", "Give the folder of a LoRA adapter.")
    return Adapter(name, changes, whole)


def read_tensors(file: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors of a safetensors file by their keys."""
    try:
        with safe_open(file, "pt") as opened:
            for key in filter(wanted, opened.keys()):
                yield key, opened.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise BadCheckpoint(f"{file} cannot be read.", "Copy the adapter anew.") from error


def apply_adapter(network: torch.nn.Module, adapter: Adapter) -> None:
    """Merge the changes into their matrices, or attach them to what cannot be added to: matrices
    that are quantised, or that lie in a store and visit the device."""
    with torch.no_grad():
        for name, change in adapter.changes.items():
            module = network.get_submodule(name)
            weight = module.weight
            assert isinstance(weight, torch.Tensor)
            if weight.is_meta or not weight.is_floating_point():
                _attach(module, change)
            else:
                weight.add_(change.matrix.to(weight))
        for name, values in adapter.whole.items():
            parameter = network.get_parameter(name)
            if parameter.is_meta or parameter.shape != values.shape:
                raise BadCheckpoint(
                    f"{adapter.name} replaces {name}, which is quantised or offloaded.",
                    "Leave --quantize and --offload out.",
                )
            parameter.copy_(values)


def _attach(module: torch.nn.Module, change: Change) -> None:
    down, up = change.down, change.scale * change.up

    def add(_: torch.nn.Module, taken: tuple[torch.Tensor, ...], given: torch.Tensor) -> Any:
        nonlocal down, up
        down, up = down.to(given), up.to(given)  # once, since they stay there
        linear = torch.nn.functional.linear
        # In place, so that a wide part lives once and the planner's peak holds.
        return given.add_(linear(linear(taken[0].to(given), down), up))

    module.register_forward_hook(add)


class Scaling:
    """How much each change counts, as an adapter's configuration says."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._alpha = float(config["lora_alpha"])
        self._patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
        self._rooted = bool(config.get("use_rslora"))

    def scale(self, module: str, rank: int) -> float:
        """Of a module, by the name it had when it was trained."""
        module = module.removeprefix(WRAPPING)
        named = (
            alpha
            for pattern, alpha in self._patterns.items()
            if re.match(rf"(.*\.)?({pattern})$", module)
        )
        return float(next(named, self._alpha)) / (math.sqrt(rank) if self._rooted else rank)


def _changes_of(
    module: str,
    down: torch.Tensor,
    up: torch.Tensor,
    shape: Shape,
    scale: Callable[[str, int], float],
) -> dict[str, Change]:
    """A fused matrix is several of transformers': they share `down`, and the rows are theirs."""
    parts: Parts = rename(f"{module}.weight", up, shape.text)
    counts = scale(module, down.shape[0])
    return {
        name.removesuffix(".weight"): Change(down, rows, counts) for name, rows in parts.items()
    }


def _require_places(
    name: str,
    changes: Mapping[str, Change],
    whole: Mapping[str, torch.Tensor],
    shape: Shape,
) -> None:
    places = {
        f"{module}.{parameter}": size
        for module, parameters in shape.modules.items()
        for parameter, size in parameters.items()
    }
    sizes: Parameters = {
        f"{module}.weight": (change.up.shape[0], change.down.shape[-1])
        for module, change in changes.items()
    }
    sizes |= {parameter: tuple(values.shape) for parameter, values in whole.items()}
    for place, size in sizes.items():
        if place not in places:
            raise _another_base(name, shape, f"it changes {place}, which is not there.")
        if places[place] != size:
            told = " x ".join(map(str, size)), " x ".join(map(str, places[place]))
            raise _another_base(name, shape, f"{place} would be {told[0]} and is {told[1]}.")


def _require_every_layer(adapter: Adapter, shape: Shape, config: Mapping[str, Any]) -> None:
    """An adapter of a shallower model fits where widths are the same, as 14B's and 38B's."""
    if config.get("layers_to_transform") is not None:
        return
    depths = {LAYERS: shape.text.layers, f"{VISION}.encoder.layer": shape.vision.layers}
    found = [match for match in map(LAYER.match, adapter.changes) if match]
    for stack, depth in depths.items():
        layers = {int(match[2]) for match in found if match[1] == stack}
        if layers == set(range(len(layers))) and 0 < len(layers) < depth:
            reason = f"it has {len(layers)} layers of {stack}, of {depth}."
            raise _another_base(adapter.name, shape, reason)


def _another_base(name: str, shape: Shape, reason: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"The adapter {name} was not made for {shape.name}: {reason}",
        "Give the checkpoint it was trained on as --model.",
    )
