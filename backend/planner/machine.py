"""What this machine has free right now. The only file of the planner that looks at anything.

GPUs are asked for through `nvidia-smi`, so that no torch is needed; where it is missing there
are none. An engine that has torch loaded should rather ask torch: its order of mixed GPUs may
differ from `nvidia-smi`'s.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from backend.errors import BadSetting
from backend.planner.devices import CPU, DISK, Device, Machine

MEBIBYTE = 2**20
PATIENCE_S = 10.0  # a driver that sleeps takes a second or two to answer
ASK_GPUS = ("nvidia-smi", "--query-gpu=memory.free,name", "--format=csv,noheader,nounits")


def look_around() -> Machine:
    """GPUs, memory and disk as they are free now.

    Raises `BadSetting` on a system that does not tell its free memory.
    """
    return Machine(find_gpus(), Device(CPU, find_free_memory()), Device(DISK, find_free_disk()))


def find_gpus() -> tuple[Device, ...]:
    """NVIDIA GPUs that this process may use, in the order of `nvidia-smi`; empty if none."""
    try:
        answer = subprocess.run(
            ASK_GPUS, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return choose_visible(read_gpus(answer), os.environ.get("CUDA_VISIBLE_DEVICES"))


def read_gpus(answer: str) -> tuple[int, ...]:
    """Free bytes of each GPU from lines such as `24048, NVIDIA GeForce RTX 4090` (MiB)."""
    numbers = [line.partition(",")[0].strip() for line in answer.splitlines()]
    return tuple(int(number) * MEBIBYTE for number in numbers if number.isdecimal())


def choose_visible(free_bytes: tuple[int, ...], visible: str | None) -> tuple[Device, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, renumbered as CUDA does; all if it is unset.

    As in CUDA, the list ends at the first entry that is no index of a GPU.
    """
    indices = range(len(free_bytes)) if visible is None else _read_indices(visible)
    chosen: list[Device] = []
    for index in indices:
        if not 0 <= index < len(free_bytes):
            break
        chosen.append(Device(f"cuda:{len(chosen)}", free_bytes[index]))
    return tuple(chosen)


def find_free_memory() -> int:
    """Bytes of memory that can be had without swapping, a container's limit heeded."""
    available = read_meminfo() or _ask_system()
    if not available:
        raise BadSetting(
            "This system does not tell how much memory is free.", "Say it with --ram, in GB."
        )
    room = read_container_room()
    return available if room is None else min(available, room)


def find_free_disk() -> int:
    """Bytes free on the disk of the folder for temporary files, where offloaded weights go."""
    return shutil.disk_usage(tempfile.gettempdir()).free


def read_meminfo(path: Path = Path("/proc/meminfo")) -> int | None:
    """Linux's own estimate, "MemAvailable"; `None` elsewhere."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def read_container_room(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container (cgroup v2) may still take; `None` where there is no limit.

    Cached files count as taken there although they give way, so they are counted as free.
    """
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        taken = int((folder / "memory.current").read_text(encoding="ascii"))
        details = (folder / "memory.stat").read_text(encoding="ascii").split()
    except OSError:
        return None
    if not limit.isdecimal():
        return None
    cached = int(details[details.index("inactive_file") + 1]) if "inactive_file" in details else 0
    return max(0, int(limit) - taken + cached)


def _ask_system() -> int | None:
    """All memory of a system without /proc, such as a Mac's."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _read_indices(visible: str) -> tuple[int, ...]:
    words = [word.strip() for word in visible.split(",")]
    return tuple(int(word) if word.isdecimal() else -1 for word in words)
