"""What torch says of devices becomes what the planner counts with."""

import pytest
import torch

from backend.errors import BadSetting
from backend.local import devices as devices_module
from backend.local.devices import BOUNDLESS, describe, find_machine, free_memory, free_on
from backend.planner.devices import GB, Device
from backend.planner.loads import CPU_BASE_BYTES

NAMES = {0: "NVIDIA H100", 1: "NVIDIA H100", 2: "NVIDIA T4"}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with so much memory and disk, of which this process holds 0.5 GB."""
    monkeypatch.setattr(devices_module, "find_free_memory", lambda: 10 * GB)
    monkeypatch.setattr(devices_module, "find_free_disk", lambda: 99 * GB)
    monkeypatch.setattr(devices_module, "resident_bytes", lambda: GB // 2)


@pytest.fixture
def gpus(memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs with 20 and 30 GB free, and 3 GB in torch's cache of which 1 is in use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    free = {"cuda:0": 20 * GB, "cuda:1": 30 * GB}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: (free[name], 80 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda name: 3 * GB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda name: GB)
    monkeypatch.setattr(torch.cuda, "get_device_name", NAMES.__getitem__)


def test_gpus_come_in_torchs_order_with_what_torch_could_still_give(gpus: None) -> None:
    found = find_machine()
    assert found.gpus == (Device("cuda:0", 22 * GB), Device("cuda:1", 32 * GB))
    assert free_on("cuda:1") == 32 * GB


def test_what_this_process_holds_already_is_not_reserved_twice(
    memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    found = find_machine()
    assert found.gpus == ()
    assert found.cpu == Device("cpu", 10 * GB + GB // 2)
    assert found.disk == Device("disk", 99 * GB)
    monkeypatch.setattr(devices_module, "resident_bytes", lambda: 5 * GB)
    assert find_machine().cpu == Device("cpu", 10 * GB + CPU_BASE_BYTES)
    assert free_on("cpu") == 10 * GB


def test_an_apple_lends_its_gpu_no_more_than_is_free(
    memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: GB)
    for most, free in ((8, 7), (30, 10), (0.5, 0)):
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda most=most: int(most * GB))
        assert find_machine().gpus == (Device("mps", free * GB),)


def test_a_system_that_does_not_tell_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> int:
        raise BadSetting("Unknown.", "Say it.")

    monkeypatch.setattr(devices_module, "find_free_memory", silent)
    assert free_memory() == BOUNDLESS


def test_this_process_holds_something() -> None:
    assert 10**8 < devices_module.resident_bytes() < 10**11


def test_places_are_told_as_a_person_knows_them(gpus: None) -> None:
    assert describe([0]) == "NVIDIA H100"
    assert describe([0, 1, 0, 1]) == "2 × NVIDIA H100"
    assert describe([2, "cpu", 0, "disk", 1, "cpu"]) == "2 × NVIDIA H100 + NVIDIA T4 + cpu + disk"
    assert describe(["cpu"]) == "cpu"
