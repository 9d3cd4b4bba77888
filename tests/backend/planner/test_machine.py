import os
from pathlib import Path

import pytest

from backend.planner import machine
from backend.planner.devices import Device, describe, in_gb, make_gpus
from backend.planner.machine import (
    MEBIBYTE,
    choose_visible,
    find_gpus,
    look_around,
    read_container_room,
    read_gpus,
    read_meminfo,
)

ANSWER = "24048, NVIDIA GeForce RTX 4090\n81037, NVIDIA H100, 80GB\n[N/A], Odd card\n"


def test_free_bytes_are_read_from_nvidia_smi() -> None:
    assert read_gpus(ANSWER) == (24_048 * MEBIBYTE, 81_037 * MEBIBYTE)
    assert read_gpus("No devices were found\n") == ()


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [10, 20, 30]),
        ("", []),
        ("2,0", [30, 10]),
        (" 1 ", [20]),
        ("1,-1,0", [20]),
        ("0,7,1", [10]),
        ("GPU-8f5c,1", []),
    ],
)
def test_hidden_gpus_are_left_out_as_cuda_does(visible: str | None, expected: list[int]) -> None:
    found = choose_visible((10, 20, 30), visible)
    assert [device.free_bytes for device in found] == expected
    assert [device.name for device in found] == [f"cuda:{index}" for index in range(len(found))]


def test_nvidia_smi_itself_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '24048, NVIDIA GeForce RTX 4090'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_gpus() == (Device("cuda:0", 24_048 * MEBIBYTE),)


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\nsleep 60\n"])
def test_a_driver_that_fails_or_hangs_means_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(machine, "PATIENCE_S", 0.2)
    assert find_gpus() == ()


def test_without_nvidia_smi_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == ()


def test_memory_is_what_linux_calls_available(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  9 kB\nMemFree:  1 kB\nMemAvailable:  5 kB\n")
    assert read_meminfo(meminfo) == 5 * 1024
    assert read_meminfo(tmp_path / "missing") is None


def test_a_containers_limit_leaves_what_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50\nactive_file 7\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert read_container_room(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert read_container_room(tmp_path) is None
    assert read_container_room(tmp_path / "missing") is None


def test_this_machine_has_memory_and_a_disk() -> None:
    here = look_around()
    assert here.cpu is not None
    assert here.cpu.free_bytes > 0
    assert here.disk is not None
    assert here.disk.free_bytes > 0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 MB"),
        (11_300_000, "11 MB"),
        (1.88e9, "1.9 GB"),
        (8e9, "8 GB"),
        (9.96e9, "10 GB"),
        (76.78e9, "77 GB"),
    ],
)
def test_bytes_are_told_in_two_figures(count: float, text: str) -> None:
    assert in_gb(count) == text


def test_equal_gpus_are_counted_together() -> None:
    assert describe(make_gpus(24, 24, 80)) == "2 × 24 GB and 1 × 80 GB"
    assert describe((Device("cpu", 64 * 10**9),)) == "64 GB on the CPU"
