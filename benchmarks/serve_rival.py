"""The rival that people would use instead: `transformers serve` on the same weights.

It wants torchvision, which would change what our own transformers does. So that lies in a folder
of its own, filled by pip at the first run: the one that INTERNVL_RIVAL names, else one in the
user's cache; never in the project. What lets its GPU build load beside a torch for processors is
the tests' own (`tests/engines/serving`).
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from backend.checkpoint.find import BUNDLED_FOLDER
from benchmarks.weights import TOKENS_PER_TILE
from tests.engines.running import free_port
from tests.engines.serve_transformers import SIGNS, START

TORCHVISION = "torchvision==0.28.0"  # the release beside torch 2.13
PATIENCE_S = 300.0
UNKNOWN = 1 << 30  # no token has this id, so that none ends an answer


class NoRival(Exception):
    """The server cannot run here; the text tells why."""


@dataclass(frozen=True, slots=True)
class Served:
    """One answer of the server: seconds to its first text and to its end, and its tokens."""

    first_s: float
    whole_s: float
    tokens: int
    prompt_tokens: int


@contextmanager
def running_rival(checkpoint: Path, tiles: int) -> Iterator["Rival"]:
    """The server, ready, with a checkpoint that it may change; pictures have `tiles` at most.

    Raises `NoRival` where its libraries cannot be had.
    """
    libraries = find_libraries()
    adapt(checkpoint, tiles)
    port = free_port()
    program = "from transformers.cli.transformers import main; main()"
    words = ["serve", str(checkpoint), "--device", "cpu", "--dtype", "float32"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    paths = os.pathsep.join((str(START), str(libraries)))
    with (checkpoint / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=log,
            stderr=log,
            # One thread, as ours has on two cores: see `spare_a_core`.
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        )
        try:
            rival = Rival(f"http://127.0.0.1:{port}", str(checkpoint))
            rival.wait(process)
            yield rival
        finally:
            process.kill()
            process.wait()


def find_libraries() -> Path:
    """Where torchvision lies, which is fetched if need be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = os.environ.get("INTERNVL_RIVAL")
    folder = Path(named) if named else cache / "internvl-benchmarks" / "serving"
    if not (folder / "torchvision").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        got = subprocess.run(
            [*pip, "--no-deps", "--target", str(folder), TORCHVISION],
            capture_output=True,
            text=True,
            check=False,
        )
        if got.returncode:
            raise NoRival(f"it needs {TORCHVISION}, which pip could not fetch")
    return folder


def adapt(checkpoint: Path, tiles: int) -> None:
    """Let the server find what its processor asks for, cut pictures, and end no answer early."""
    for name in ("chat_template.jinja", "processor_config.json"):
        shutil.copy(BUNDLED_FOLDER / name, checkpoint)
    _change(checkpoint / "processor_config.json", {"image_seq_length": TOKENS_PER_TILE})
    _change(checkpoint / "tokenizer_config.json", {"extra_special_tokens": SIGNS})
    cutting = {"crop_to_patches": True, "min_patches": 1, "max_patches": tiles}
    _change(checkpoint / "preprocessor_config.json", cutting)
    _change(checkpoint / "generation_config.json", {"eos_token_id": UNKNOWN})


def _change(path: Path, entries: dict[str, object]) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(told | entries), encoding="utf-8")


class Rival:
    """A running server."""

    def __init__(self, url: str, model: str) -> None:
        self._url = url
        self._model = model

    def wait(self, process: "subprocess.Popen[bytes]") -> None:
        """Until it answers; raises `RuntimeError` when it ends instead."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"{self._url}/v1/models", trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise RuntimeError("transformers serve did not start")

    def answer(self, question: str, picture: Path, tokens: int) -> Served:
        """Ask about one picture, and read the stream to its end."""
        begun = time.perf_counter()
        first = told = prompt = 0.0
        body = self._body(question, picture, tokens)
        url = f"{self._url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=PATIENCE_S, trust_env=False) as lines:
            lines.raise_for_status()
            for line in lines.iter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if any(one["delta"].get("content") for one in event.get("choices", ())):
                    first = first or time.perf_counter()
                if usage := event.get("usage"):
                    told, prompt = usage["completion_tokens"], usage["prompt_tokens"]
        ended = time.perf_counter()
        return Served((first or ended) - begun, ended - begun, int(told), int(prompt))

    def answer_all(self, question: str, pictures: Sequence[Path], tokens: int) -> list[Served]:
        """Everybody at once, each about a picture."""
        served: list[Served] = []
        threads = [
            threading.Thread(
                target=lambda picture=picture: served.append(self.answer(question, picture, tokens))
            )
            for picture in pictures
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(served) != len(pictures):
            raise RuntimeError("transformers serve left somebody without an answer")
        return served

    def _body(self, question: str, picture: Path, tokens: int) -> dict[str, object]:
        data = base64.b64encode(picture.read_bytes()).decode()
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        content = [image, {"type": "text", "text": question}]
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
        }
