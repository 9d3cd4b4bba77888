"""Where figures come from: the machine and the versions, without which they mean nothing."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "transformers", "gradio", "pillow", "numpy", "av", "decord", "tokenizers")
ROOT = Path(__file__).parent.parent


def describe_machine() -> dict[str, str | int | float]:
    """Processor, cores that this process may use, memory in GB, and how busy others keep it."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": read_cpu() or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages * page / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),  # programs that wanted a core, on average
    }


def describe_versions() -> dict[str, str]:
    """Versions of what is measured or does the work, as installed, and the project's commit."""
    found = {"commit": read_commit(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def read_cpu() -> str:
    """The processor's name as Linux tells it; "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""


def read_commit() -> str:
    """The commit that is checked out, with a + when files differ from it; "" without git."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()
