"""docs/deploy.md says what the programs say: its tables and its names are theirs."""

import re
from pathlib import Path

import pytest

from benchmarks.sizing import example_table
from tests.deploy.proxy import TEMPLATE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
NUMBERS = {"eight": 8, "nine": 9}


def block(name: str) -> str:
    (found,) = re.findall(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", PAGE, re.DOTALL)
    return found.strip()


def test_the_crowds_are_those_of_the_simulation() -> None:
    assert block("sizing") == example_table()


def test_the_measured_block_tells_its_origin() -> None:
    assert "p95 of the first word" in block("figures")
    assert "Measured by `python -m benchmarks` at " in block("figures")


def test_compose_profiles_are_those_that_there_are() -> None:
    named = set(re.findall(r"--profile (\w+)", PAGE))
    assert named and all(f"profiles: [{name}]" in COMPOSE for name in named)


def test_the_versions_of_the_engines_are_those_of_compose() -> None:
    for engine, image in (("LMDeploy", "lmdeploy"), ("vLLM", "vllm-openai"), ("SGLang", "sglang")):
        version = re.search(rf"\| {engine} (\d[\d.]*) \|", PAGE)
        pinned = re.search(rf"/{image}:v([\d.]+)\}}", COMPOSE)
        assert version and pinned and pinned[1].startswith(f"{version[1]}.")


def test_the_number_of_names_to_fill_in_is_right() -> None:
    (word,) = re.findall(r"fill in its (\w+) names", PAGE)
    names = set(re.findall(r"\$\{([A-Z_]+)\}", TEMPLATE.read_text(encoding="utf-8")))
    assert NUMBERS[word] == len(names)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", PAGE))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()
