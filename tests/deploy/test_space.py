"""The repository is a Space as it stands: its front matter is valid and says what is true."""

import re
from pathlib import Path
from typing import Any

import pytest

from backend.checkpoint.find import SIZES, repository_of
from backend.planner.choose import choose_sizes
from backend.planner.devices import CPU, GB, Device, Machine, make_gpus
from backend.settings import Settings
from tests.deploy.space import faults_of_space, read_front

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MEMORY = Device(CPU, 16 * GB)
# What nvidia-smi tells as free on these machines when nothing runs, rounded down.
MACHINES = {
    "cpu-basic": Machine(cpu=MEMORY),
    "t4-small": Machine(make_gpus(15.5), MEMORY),
    "l4x1": Machine(make_gpus(23.5), MEMORY),
    "a100-large": Machine(make_gpus(84.5), MEMORY),
}


@pytest.fixture
def front() -> dict[str, Any]:
    return read_front(README)


def test_the_front_matter_is_valid(front: dict[str, Any]) -> None:
    assert faults_of_space(front) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"colorFrom": "teal"}, "colorFrom is no colour of Spaces"),
        ({"sdk": "streamlit"}, "sdk is not gradio"),
        ({"python_version": 3.11}, "python_version is no text"),
        ({"suggested_hardware": "h1000"}, "suggested_hardware is none that there is"),
        ({"short_description": "x" * 61}, "short_description is too long"),
        ({"tags": "chat"}, "tags is no list of texts"),
        ({"app_port": 7860}, "app_port is unknown"),
    ],
)
def test_a_wrong_value_is_seen(front: dict[str, Any], change: dict[str, Any], fault: str) -> None:
    assert faults_of_space(front | change) == [fault]


def test_a_block_that_is_not_at_the_top_is_none() -> None:
    with pytest.raises(ValueError, match="not at the top"):
        read_front("# Title\n" + README)


def test_a_space_installs_the_gradio_that_is_tested(front: dict[str, Any]) -> None:
    pinned = re.search(r"^gradio==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned and front["sdk_version"] == pinned[1]


def test_a_space_has_a_python_that_will_do(front: dict[str, Any]) -> None:
    least = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert least
    major, minor = map(int, front["python_version"].split("."))
    assert (major, minor) >= (int(least[1]), int(least[2]))


def test_a_space_starts_a_file_that_is_there(front: dict[str, Any]) -> None:
    assert (ROOT / front["app_file"]).is_file()


def test_the_models_are_those_that_the_suggested_hardware_and_a_free_space_answer_with(
    front: dict[str, Any],
) -> None:
    chosen = [
        choose_sizes(Settings("auto"), MACHINES[name])[0].name
        for name in (front["suggested_hardware"], "cpu-basic")
    ]
    assert front["models"] == [repository_of(size) for size in chosen]


def test_larger_hardware_gets_a_larger_size() -> None:
    sizes = [choose_sizes(Settings("auto"), machine)[0].name for machine in MACHINES.values()]
    assert sizes == ["1B", "2B", "8B", "14B"]
    assert set(sizes) <= set(SIZES)
