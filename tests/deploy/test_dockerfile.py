"""The Dockerfile passes its linter, and what it copies is enough to answer a question.

There is no Docker where these tests run: the image was not built. What can be done without is
done: the files it would hold are laid out, and its own words start the app there.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backend.settings import Settings
from terminal.arguments import Serve, read_command

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINTER = Path(sys.executable).with_name("hadolint")


def instructions(name: str) -> list[str]:
    """The arguments of every instruction of a kind, in the last stage."""
    stage = re.split(r"^FROM ", TEXT.replace("\\\n", " "), flags=re.MULTILINE)[-1]
    return re.findall(rf"^{name} (.*)$", stage, re.MULTILINE)


def copied() -> list[str]:
    """What the image gets from this repository."""
    plain = [words.split() for words in instructions("COPY") if not words.startswith("--")]
    return [source for *sources, _ in plain for source in sources]


def lint(path: Path) -> "subprocess.CompletedProcess[str]":
    words = [LINTER, "--no-color", "--failure-threshold", "info", path]
    return subprocess.run(words, capture_output=True, text=True)


def test_the_linter_finds_nothing() -> None:
    done = lint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("python:${PYTHON}\nRUN", "python:latest\nRUN", "DL3007"),
        ('ENTRYPOINT ["python", "app.py"]', "ENTRYPOINT python app.py", "DL3025"),
        ("COPY ui ui", "COPY ui ui\nRUN cd ui", "DL3003"),
    ],
)
def test_the_linter_would_find_something(tmp_path: Path, right: str, wrong: str, rule: str) -> None:
    assert right in TEXT
    (tmp_path / "Dockerfile").write_text(TEXT.replace(right, wrong))
    assert rule in lint(tmp_path / "Dockerfile").stdout


def test_the_app_runs_as_nobody_special() -> None:
    (user,) = instructions("USER")
    assert int(user) > 0


def test_its_words_are_a_command_of_ours() -> None:
    (entry,), (rest,) = instructions("ENTRYPOINT"), instructions("CMD")
    assert json.loads(entry) == ["python", "app.py"]
    assert read_command(json.loads(rest)) == Serve(Settings("auto", host="0.0.0.0"))


def test_its_port_and_its_health_are_those_of_the_page() -> None:
    assert instructions("EXPOSE") == [str(Settings().port)]
    (check,) = instructions("HEALTHCHECK")
    assert f"http://127.0.0.1:{Settings().port}/ready" in check


def test_nothing_that_is_copied_is_kept_out_of_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert kept == {*copied(), "requirements.txt", "requirements-gpu.txt"}
    assert "*" in lines and "**/__pycache__" in lines


def test_requirements_of_every_variant_are_found_where_it_looks() -> None:
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    (left_out,) = re.findall(r"grep -vE '(.*?)' requirements\.txt", TEXT)
    light = [line for line in requirements.splitlines() if not re.match(left_out, line)]
    assert len(requirements.splitlines()) - len(light) == 3
    assert not any("torch" in line.split("#")[0] for line in light)
    (quantizers,) = re.findall(r"grep '(.*?)' requirements-gpu\.txt", TEXT)
    gpu = (ROOT / "requirements-gpu.txt").read_text(encoding="utf-8")
    assert re.search(quantizers, gpu, re.MULTILINE)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as /app in the image."""
    folder = tmp_path_factory.mktemp("image")
    for source in copied():
        lay = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        lay(ROOT / source, folder / source)
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["app.py", "ask", "Hello", "--max-new-tokens", "4", "--json"], '"new_tokens": 4'),
        (["app.py", "ask", "Q", "--image", "assets/examples/night.png", "--dry-run"], "night.png"),
        (["-c", "import ui, door, backend.remote; print(ui.__file__)"], "ui"),
    ],
)
def test_the_files_of_the_image_are_enough(image: Path, words: list[str], told: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=image, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert told in done.stdout
