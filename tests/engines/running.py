"""A real engine in a process of its own: started, asked for its figures, and ended."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.engines.gguf import convert
from tests.waiting import free_port

ROOT = Path(__file__).parent.parent.parent
SERVER = Path(__file__).parent / "serve_llama.py"
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Llama:
    """llama.cpp, serving the bundled checkpoint."""

    url: str
    process: "subprocess.Popen[str]"

    def figure(self, name: str) -> float:
        """One of its own metrics."""
        lines = httpx.get(f"{self.url}/metrics", trust_env=False).text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"llamacpp:{name}"))

    @property
    def busy(self) -> int:
        """How many of its slots are at work."""
        slots = httpx.get(f"{self.url}/slots", trust_env=False).json()
        return sum(slot["is_processing"] for slot in slots)


@contextmanager
def running_llama(
    folder: Path, name: str, context: int = 2048, slots: int = 8, endless: bool = False
) -> Iterator[Llama]:
    """llama.cpp on a free port. Its files are written to `folder`."""
    folder.mkdir(exist_ok=True)
    files = convert(ROOT / "assets" / "checkpoint", folder, endless)
    port = free_port()
    words = [port, *files, name, context, slots]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(SERVER), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            assert any("listening" in line for line in lines), (folder / "log").read_text()
            yield Llama(f"http://127.0.0.1:{port}", process)
        finally:
            process.kill()
            process.communicate()
