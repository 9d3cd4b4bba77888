"""The rival that people would use instead: `transformers serve` on the same weights.

It wants torchvision, which would change what our own transformers does. So that lies in a folder
of its own (`make .venv/serving/installed`, as for the tests, made here where it is missing), which
only the server's process sees.
What lets its GPU build load beside a torch for processors is the tests' own
(`tests/engines/serving`).
"""

import base64
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from backend.checkpoint.find import BUNDLED_FOLDER
from benchmarks.sizing import run_together
from benchmarks.weights import TOKENS_PER_TILE
from tests.engines.serve_transformers import LIBRARIES, SIGNS, serving

ROOT = Path(__file__).parent.parent
TARGET = ".venv/serving/installed"
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
    require_libraries()
    adapt(checkpoint, tiles)
    # One thread, as ours has on two cores: see `spare_a_core`.
    with serving(checkpoint, LIBRARIES, checkpoint / "log", OMP_NUM_THREADS="1") as url:
        yield Rival(url, str(checkpoint))


def require_libraries() -> None:
    """Make the server's folder of libraries where it is missing. Raises `NoRival`."""
    if (LIBRARIES / "torchvision").is_dir():
        return
    try:
        made = subprocess.run(["make", TARGET], cwd=ROOT, stdout=sys.stderr, check=False)
    except OSError as error:
        raise NoRival(f"make {TARGET} could not be run: {error.strerror}") from None
    if made.returncode:
        raise NoRival(f"make {TARGET} failed")


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
        run_together(
            [lambda one=one: served.append(self.answer(question, one, tokens)) for one in pictures]
        )
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
