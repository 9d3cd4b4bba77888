"""Devices as a planner sees them: a name and free bytes. Knows no driver and asks no machine."""

from dataclasses import dataclass
from itertools import groupby

GB = 10**9  # bytes, as memory is sold and as file sizes are told
CPU = "cpu"
DISK = "disk"


@dataclass(frozen=True, slots=True)
class Device:
    """Something that holds modules. Names are transformers': `cuda:0`, `cpu`, `disk`."""

    name: str
    free_bytes: int

    @property
    def is_gpu(self) -> bool:
        """Whether it computes beside the CPU."""
        return self.name not in (CPU, DISK)


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is: GPUs in order, the memory of the CPU, and a disk for offloading."""

    gpus: tuple[Device, ...] = ()
    cpu: Device | None = None
    disk: Device | None = None

    @property
    def workers(self) -> tuple[Device, ...]:
        """Where modules compute: the GPUs, or the CPU where there is none."""
        return self.gpus or ((self.cpu,) if self.cpu else ())

    @property
    def stores(self) -> tuple[Device, ...]:
        """Where modules may lie that compute on a worker, the faster first."""
        cpu = self.cpu if self.gpus else None
        return tuple(store for store in (cpu, self.disk) if store)


def make_gpus(*free_gb: float) -> tuple[Device, ...]:
    """GPUs with so many free GB each, named in order."""
    return tuple(Device(f"cuda:{index}", int(gb * GB)) for index, gb in enumerate(free_gb))


def in_gb(count: float) -> str:
    """`77 GB`, `8.6 GB`, `11 MB`: two figures are enough for a person."""
    if count < 0.1 * GB:
        return f"{count / 10**6:.0f} MB"
    digits = 1 if count < 9.95 * GB else 0
    return f"{count / GB:.{digits}f}".removesuffix(".0") + " GB"


def describe(devices: tuple[Device, ...]) -> str:
    """`2 × 24 GB and 1 × 80 GB`; the CPU's memory as `64 GB on the CPU`."""
    sizes = [in_gb(device.free_bytes) for device in devices if device.is_gpu]
    groups = [f"{len([*same])} × {size}" for size, same in groupby(sizes)]
    groups += [f"{in_gb(one.free_bytes)} on the CPU" for one in devices if not one.is_gpu]
    return " and ".join(groups)
