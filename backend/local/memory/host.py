"""The host: memory beside a device's own, to which kept caches may go instead of being forgotten.

It moves keys and values and knows nothing of what they stand for.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

HOST = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Host:
    """At most `capacity` bytes of the host's memory; with none, nothing goes there."""

    capacity: int = 0

    def take(self, cache: DynamicCache) -> DynamicCache:
        """A copy of a cache in the host's memory."""
        return _moved(cache, lambda tensor, home: self.send(tensor, HOST))

    def give_back(self, cache: DynamicCache) -> DynamicCache:
        """A copy of what `take` gave, each layer on the device that it was on."""
        return _moved(cache, self.send)

    def send(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A tensor in the memory of a device."""
        return tensor.to(device)


def _moved(
    cache: DynamicCache, move: Callable[[torch.Tensor, torch.device], torch.Tensor]
) -> DynamicCache:
    twin = copy(cache)
    layers: list[Any] = [copy(layer) for layer in cache.layers]
    for layer in layers:
        # transformers 5.24 notes where a layer began, which this leaves as it is.
        layer.keys, layer.values = (
            move(tensor, layer.device) for tensor in (layer.keys, layer.values)
        )
    twin.layers = layers
    return twin
