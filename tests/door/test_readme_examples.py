"""The README's examples for programs are run, and the reference names what there is."""

import json
import re
import subprocess
import sys
from pathlib import Path

from backend.engine import State, Status
from backend.remote import engine
from door.counts import Counts
from door.intake import MB, MOST_BODY, MOST_OPEN, MOST_TOGETHER
from door.schema import UNABLE, Asked
from door.store import MOST_BYTES
from tests.door.conftest import Served
from tests.door.real import bundled
from tests.waiting import wait_until

__all__ = ["bundled"]
ROOT = Path(__file__).parents[2]
PORT = "http://127.0.0.1:7860"
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "door.md").read_text(encoding="utf-8")
SECTION = re.search(r"^## The same model for programs\n(.*?)^## ", README, re.M | re.S)
assert SECTION
CURL, PYTHON = re.findall(r"^```\n(.*?)^```$", SECTION[1], re.M | re.S)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_commands_are_answered(bundled: Served) -> None:
    streamed, with_picture = CURL.strip().split("\n\n")
    out = run("sh", "-c", streamed.replace(PORT, bundled.url))
    assert out.count("data: {") > 5 and out.endswith("data: [DONE]\n\n")
    out = run("sh", "-c", with_picture.replace(PORT, bundled.url))
    answer = json.loads(out)["choices"][0]
    assert "star" in answer["message"]["content"] and answer["finish_reason"] == "stop"


def test_the_python_example_is_answered(bundled: Served) -> None:
    assert "star" in run(sys.executable, "-c", PYTHON.replace(PORT, bundled.url))


def test_the_reference_names_every_field_and_figure() -> None:
    for name in Asked.model_fields:
        assert f"`{name}" in REFERENCE, name
    told = set(re.findall(r"`(chat_\w+)", REFERENCE))
    written = Counts().write(Status(State.READY, "fake"))
    assert told == set(re.findall(r"# TYPE (\w+)", written))


def test_the_reference_tells_the_limits_that_there_are() -> None:
    (told,) = re.findall(r"^\| 429 \| (.*) \|$", REFERENCE, re.M)
    assert f"{MOST_BYTES / 1e9:g} GB" in told and f"{MOST_TOGETHER // MB} MB" in told
    assert f"{MOST_OPEN} answers" in told
    assert f"{engine.MOST_OPEN} questions" in told and f"{engine.MOST_OF_ONE} of one" in told
    assert f"over {MOST_BODY // MB} MB" in REFERENCE


def test_what_is_not_supported_is_a_known_field_at_least() -> None:
    for name in ("tools", "response_format", "logprobs", "logit_bias"):
        assert name in UNABLE and f"`{name}`" in REFERENCE


def test_figures_of_the_real_engine_add_up(bundled: Served) -> None:
    answer = bundled.ask(max_tokens=3).json()
    assert answer["usage"]["total_tokens"] == sum(
        answer["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )
    wait_until(lambda: "chat_requests_open 0" in bundled.get("/metrics").text)
