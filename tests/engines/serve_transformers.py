"""`transformers serve` with the bundled checkpoint, in a process of its own.

The server needs a library beside ours, torchvision, which would change what our own transformers
does; it lies in a folder that only this process sees (`make .venv/serving/installed`).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.engines.running import ROOT
from tests.waiting import free_port, wait_until

LIBRARIES = ROOT / ".venv" / "serving"
START = Path(__file__).parent / "serving"
START_S = 300.0
# Its processor asks the tokenizer for these by name; the last is a sign that no prompt has.
SIGNS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<quad>",
}


@contextmanager
def running_transformers(folder: Path, name: str = "bundled", **told: object) -> Iterator[str]:
    """The server on a free port; yields its address.

    A model called "endless" never ends an answer and is known here by no name. `told` is added to
    the configuration of the tokenizer.
    """
    assert LIBRARIES.is_dir(), "run make .venv/serving/installed"
    checkpoint = folder / name
    prepare(checkpoint, told)
    if name == "endless":
        (checkpoint / "generation_config.json").write_text("{}")
    with serving(checkpoint, LIBRARIES, folder / "log") as url:
        yield url


@contextmanager
def serving(checkpoint: Path, libraries: Path, log: Path, **variables: str) -> Iterator[str]:
    """The server with a checkpoint, ready; yields its address. `variables` are for its process."""
    port = free_port()
    program = "from transformers.cli.transformers import main; main()"
    words = ["serve", str(checkpoint), "--device", "cpu", "--dtype", "float32"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    paths = os.pathsep.join((str(START), str(libraries)))
    with log.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=told,
            stderr=told,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths} | variables,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: is_up(url, process, log), "it did not start", START_S)
            yield url
        finally:
            process.kill()
            process.wait()


def is_up(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    """Whether it answers; fails with what it said if it ended."""
    assert process.poll() is None, log.read_text()
    try:
        return httpx.get(f"{url}/v1/models", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def prepare(checkpoint: Path, more: dict[str, object]) -> None:
    """The bundled checkpoint, with the names that the server's processor asks for."""
    shutil.copytree(ROOT / "assets" / "checkpoint", checkpoint)
    config = checkpoint / "tokenizer_config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps(told | {"extra_special_tokens": SIGNS} | more))
