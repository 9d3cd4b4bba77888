"""What one device carries: its part of a checkpoint, and the bytes that part costs there."""

from collections.abc import Sequence
from dataclasses import dataclass

from backend.planner.costs import Bill
from backend.planner.devices import CPU, GB, Device
from backend.planner.shapes import EMBEDDINGS, HEAD, LAYERS, NORM, PROJECTOR, ROTARY, VISION

ENDS = (EMBEDDINGS, ROTARY, NORM, HEAD)
SIGHT = (VISION, PROJECTOR)
# What CUDA and its libraries take on a GPU (not measured here), and what Python, torch,
# transformers and Gradio take on the CPU (0.51 GB measured) with room for files being read.
GPU_BASE_BYTES = int(0.6 * GB)
CPU_BASE_BYTES = int(0.8 * GB)
FRAGMENTATION = 0.05  # of what comes and goes, lost between tensors of uneven length


@dataclass(frozen=True, slots=True)
class Part:
    """What a device that computes is given.

    `guests` are decoder layers that lie in a store and come here, one at a time, to compute;
    `guest_vision` says the same of the vision tower.
    """

    ends: bool = False
    vision: bool = False
    layers: int = 0
    guests: int = 0
    guest_vision: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """Bytes on one device: weights, cache, room to work in, and a reserve nobody plans with."""

    device: Device
    weights_bytes: int = 0
    kv_bytes: int = 0
    activation_bytes: int = 0
    reserve_bytes: int = 0

    @property
    def used_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_bytes + self.activation_bytes + self.reserve_bytes

    @property
    def share(self) -> float:
        """Of what is free; above 1 it does not fit."""
        if not self.used_bytes:
            return 0.0
        free = self.device.free_bytes
        return self.used_bytes / free if free > 0 else float("inf")

    @property
    def fits(self) -> bool:
        """Whether the device has room for it."""
        return self.used_bytes <= self.device.free_bytes


def load_worker(device: Device, part: Part, bill: Bill) -> Load:
    """What a part costs on a device that computes; a device without a part costs nothing."""
    if part == Part():
        return Load(device)
    weights = part.layers * bill.weights[f"{LAYERS}.0"]
    weights += sum(bill.weights[name] for name in ENDS if part.ends)
    weights += sum(bill.weights[name] for name in SIGHT if part.vision)
    weights += part.guests * bill.adapter_layer + part.guest_vision * bill.adapter_vision
    kv = (part.layers + part.guests) * bill.kv_layer
    seeing = bill.vision if part.vision or part.guest_vision else 0
    reading = bill.text if part.layers or part.guests else 0
    reading += bill.ends if part.ends else 0
    visits = bill.plain_layer if part.guests else 0
    visits = max(visits, bill.vision_layer if part.guest_vision else 0)
    # The pictures are seen before the text is read: never both at once.
    activation = max(seeing, reading) + visits
    base = GPU_BASE_BYTES if device.is_gpu else CPU_BASE_BYTES
    reserve = base + int(FRAGMENTATION * (kv + activation))
    return Load(device, weights, kv, activation, reserve)


def load_store(device: Device, modules: Sequence[str], bill: Bill) -> Load:
    """What modules cost, unquantised, on a device that only keeps them for another."""
    weights = sum(
        bill.plain_layer if name.startswith(f"{LAYERS}.") else bill.weights[name]
        for name in modules
    )
    reserve = CPU_BASE_BYTES if device.name == CPU and weights else 0
    return Load(device, weights, reserve_bytes=reserve)
