"""Muon for the blocks' matrices, AdamW for the rest.

Muon: Keller Jordan et al., 2024 (github.com/KellerJordan/Muon): the momentum of a matrix is made
nearly orthogonal by five Newton-Schulz steps before it is applied. Here it learns in a fraction of
AdamW's steps. Query, key and value lie in one matrix and are treated as three.
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BLOCKS = ("vision.", "text.", "project_in.", "project_out.")
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True)
class Rates:
    """Learning rates of the two parts, and what both share."""

    muon: float
    adam: float
    decay: float = 0.02
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.98)


def orthogonalise(matrices: Tensor) -> Tensor:
    """[n, rows, columns]: each with singular values near one and its directions kept."""
    tall = matrices.shape[1] > matrices.shape[2]
    states = matrices.transpose(1, 2) if tall else matrices
    states = states / (states.norm(dim=(1, 2), keepdim=True) + 1e-7)
    first, second, third = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = states @ states.transpose(1, 2)
        states = first * states + torch.bmm(second * square + third * (square @ square), states)
    return states.transpose(1, 2) if tall else states


@dataclass
class Slot:
    """A parameter and what the optimizer remembers of it."""

    parameter: nn.Parameter
    parts: int
    by_muon: bool
    decays: bool
    first: Tensor
    second: Tensor | None
    steps: int = 0


class Optimizer:
    """Steps a network's parameters in place; the gradients come from outside, by name."""

    def __init__(self, network: nn.Module, rates: Rates) -> None:
        self.rates = rates
        self.slots = {name: _open_slot(name, value) for name, value in network.named_parameters()}

    def state(self) -> dict[str, dict[str, Tensor | int | None]]:
        return {
            name: {"first": slot.first, "second": slot.second, "steps": slot.steps}
            for name, slot in self.slots.items()
        }

    def load(self, state: dict[str, dict[str, Tensor | int | None]]) -> None:
        for name, slot in self.slots.items():
            kept = state[name]
            slot.first, slot.second, slot.steps = kept["first"], kept["second"], kept["steps"]

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor], share: float) -> None:
        """One step at `share` of the full rates. Parameters without a gradient stay."""
        matrices: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for name, gradient in gradients.items():
            slot = self.slots[name]
            slot.steps += 1
            if not slot.by_muon:
                self._step_adam(slot, gradient, share)
                continue
            momentum = self.rates.momentum
            slot.first.lerp_(gradient, 1 - momentum)
            ahead = gradient.lerp(slot.first, momentum)
            targets = slot.parameter.chunk(slot.parts)
            for target, direction in zip(targets, ahead.chunk(slot.parts), strict=True):
                matrices[tuple(direction.shape)].append((target, direction))
        for shape, pairs in matrices.items():
            self._step_muon(shape, pairs, share)

    def _step_adam(self, slot: Slot, gradient: Tensor, share: float) -> None:
        assert slot.second is not None
        quick, slow = self.rates.betas
        slot.first.lerp_(gradient, 1 - quick)
        slot.second.mul_(slow).addcmul_(gradient, gradient, value=1 - slow)
        rate = self.rates.adam * share
        if slot.decays:
            slot.parameter.mul_(1 - rate * self.rates.decay)
        spread = (slot.second / (1 - slow**slot.steps)).sqrt_().add_(1e-8)
        slot.parameter.addcdiv_(slot.first, spread, value=-rate / (1 - quick**slot.steps))

    def _step_muon(
        self, shape: tuple[int, ...], pairs: list[tuple[Tensor, Tensor]], share: float
    ) -> None:
        rate = self.rates.muon * share
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        updates = orthogonalise(torch.stack([direction for _, direction in pairs]))
        for (target, _), update in zip(pairs, updates, strict=True):
            target.mul_(1 - rate * self.rates.decay).add_(update, alpha=-rate * scale)


def _open_slot(name: str, parameter: nn.Parameter) -> Slot:
    by_muon = parameter.ndim == 2 and name.startswith(BLOCKS)
    return Slot(
        parameter,
        parts=3 if "qkv" in name else 1,
        by_muon=by_muon,
        decays=parameter.ndim == 2 and not name.startswith("words"),
        first=torch.zeros_like(parameter),
        second=None if by_muon else torch.zeros_like(parameter),
    )
