"""The README cannot rot: its commands, its tree and its tables are those of the project."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block_between(name: str) -> str:
    match = re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", README, re.DOTALL)
    assert match
    return match[1].strip()


def run(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout


def test_the_two_commands_stand_before_line_25() -> None:
    head = README.splitlines()[:24]  # the front matter for Spaces counted too
    assert any(line.startswith("make run ") for line in head)
    assert any(line.startswith("make run MODEL=") for line in head)


def test_every_make_command_is_a_target() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)\b", README))
    assert {"run", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_ci_runs_the_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_option_of_the_examples_exists() -> None:
    lines = [line for block in BLOCKS for line in block.splitlines() if "app.py " in line]
    assert len(lines) >= 4
    for line in lines:
        command = re.match(r"python app\.py (\w+)", line)
        if command:
            told = run("app.py", command[1], "--help")
            for option in re.findall(r"--[a-z-]+", line):
                assert option in told, line


def test_the_tree_is_the_real_one() -> None:
    (tree,) = (block for block in BLOCKS if block.startswith("app.py "))
    named: set[str] = set()
    folder = ""
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        folder = folder if indent else name
        path = f"{folder}{name}" if indent else name
        named.add(path.rstrip("/"))
        assert (ROOT / path).exists(), path
    packages = {path.parent.relative_to(ROOT) for path in ROOT.glob("*/__init__.py")}
    packages |= {path.parent.relative_to(ROOT) for path in ROOT.glob("backend/*/__init__.py")}
    assert {str(path) for path in packages} <= named


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_within_the_project_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


def test_the_fit_table_is_what_the_planner_says() -> None:
    assert block_between("fit") == run("app.py", "plan", "--markdown").strip()


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_documents_name_only_what_is_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    rooms = "backend|ui|terminal|door|deploy|docs|tests|training|benchmarks"
    for path in re.findall(rf"`((?:{rooms})/[^`\s]*)`", text):
        assert (ROOT / path).exists(), path
