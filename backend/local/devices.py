"""What this machine has free, as torch sees it; the engine's side of `backend.planner.machine`.

torch knows its GPUs in its own order, and Apple's, which `nvidia-smi` does not.
"""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import torch

from backend.errors import BadSetting
from backend.planner.devices import CPU, DISK, Device, Machine
from backend.planner.loads import CPU_BASE_BYTES
from backend.planner.machine import find_free_disk, find_free_memory

MPS = "mps"
BOUNDLESS = 2**62  # bytes, where a system does not tell: what nobody knows is not refused


def find_machine() -> Machine:
    """The devices of this machine as they are free now."""
    disk = Device(DISK, find_free_disk())
    # The plan reserves what this process takes without a model, and most of that is taken by now.
    cpu = Device(CPU, free_memory() + min(resident_bytes(), CPU_BASE_BYTES))
    if torch.cuda.is_available():
        names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        return Machine(tuple(Device(name, free_on(name)) for name in names), cpu, disk)
    if torch.backends.mps.is_available():
        return Machine((Device(MPS, free_on(MPS)),), cpu, disk)
    return Machine(cpu=cpu, disk=disk)


def free_on(name: str) -> int:
    """Bytes that torch could still allocate on a device; its own cache of freed blocks counts."""
    if name == CPU:
        return free_memory()
    if name == MPS:
        left = torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
        return max(0, min(left, free_memory()))
    kept = torch.cuda.memory_reserved(name) - torch.cuda.memory_allocated(name)
    return int(torch.cuda.mem_get_info(name)[0]) + kept


def free_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    try:
        return find_free_memory()
    except BadSetting:
        return BOUNDLESS


def give_back() -> None:
    """Let others have the memory of GPUs that torch keeps for itself although it is free."""
    torch.cuda.empty_cache()  # does nothing where none was used
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def resident_bytes() -> int:
    """Memory that this process holds; 0 where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def describe(places: Collection[int | str]) -> str:
    """Places of a device map as a person knows them: `2 × NVIDIA H100 + cpu`."""
    numbers = {place for place in places if isinstance(place, int)}
    names = Counter(torch.cuda.get_device_name(number) for number in numbers)
    gpus = [f"{count} × {name}" if count > 1 else name for name, count in names.items()]
    return " + ".join([*gpus, *sorted({place for place in places if isinstance(place, str)})])
