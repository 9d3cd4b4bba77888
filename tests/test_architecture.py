"""The rules of ARCHITECTURE.md as tests: imports point one way, and rooms stay small."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 60

INTERFACE = {"backend"}
READING = {"backend.media", "backend.checkpoint", "backend.prompt"}
MAY_IMPORT = {
    "app": {"ui", "terminal", "door", "backend.local", "backend.remote", "backend.planner"}
    | {"spaces"}
    | INTERFACE
    | READING,
    "door": {"starlette", "pydantic", "httpx"} | INTERFACE | READING,
    "ui": {"gradio", "PIL", "starlette"} | INTERFACE | READING,
    "terminal": INTERFACE | READING | {"backend.planner"},
    "backend": set(),
    "backend.media": {"PIL", "numpy", "av", "decord", "pillow_heif"} | INTERFACE,
    "backend.checkpoint": {"tokenizers", "sentencepiece", "huggingface_hub"} | INTERFACE,
    "backend.prompt": {"backend.media", "backend.checkpoint"} | INTERFACE,
    "backend.planner": {"backend.checkpoint"} | INTERFACE,
    "backend.remote": {"httpx", "numpy", "PIL", "tokenizers"} | INTERFACE | READING,
    "backend.local": {
        "torch",
        "transformers",
        "safetensors",
        "tokenizers",
        "numpy",
        "backend.planner",
    }
    | INTERFACE
    | READING,
}
SOURCES = sorted(
    path
    for folder in ("backend", "ui", "terminal", "door", "training", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
) + [ROOT / "app.py"]
BESIDE = {"training", "benchmarks"}  # they may import what they like
PRODUCT = [path for path in SOURCES if path.relative_to(ROOT).parts[0] not in BESIDE]


def name_of(path: Path) -> str:
    """`backend/local/worker.py` → `backend.local.worker`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room_of(module: str) -> str:
    """`backend.local.worker` → `backend.local`; a third-party module → its first name."""
    ours = [room for room in MAY_IMPORT if module == room or module.startswith(room + ".")]
    return max(ours, key=len) if ours else module.split(".")[0]


def imports_of(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full, so that a reader sees the arrow"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {room_of(name) for name in found} - set(sys.stdlib_module_names)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PRODUCT, ids=label)
def test_imports_point_down(path: Path) -> None:
    room = room_of(name_of(path))
    assert imports_of(parse(path)) - {room} <= MAY_IMPORT[room]


def test_a_wrong_arrow_is_seen() -> None:
    wrong = ast.parse("import torch\nfrom backend.local.worker import Worker")
    assert imports_of(wrong) - MAY_IMPORT["ui"] == {"torch", "backend.local"}


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MOST_LINES_OF_A_FUNCTION, node.name


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(parse(path))


@pytest.mark.parametrize("path", PRODUCT, ids=label)
def test_a_broad_except_gives_its_reason(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ExceptHandler) and (
            node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
        ):
            assert "#" in lines[node.lineno - 1], f"line {node.lineno}"


@pytest.mark.parametrize("path", PRODUCT, ids=label)
def test_nothing_is_global(path: Path) -> None:
    assert not [node for node in ast.walk(parse(path)) if isinstance(node, ast.Global)]


@pytest.mark.parametrize("path", PRODUCT, ids=label)
def test_names_say_what_lives_there(path: Path) -> None:
    vague = {"utils", "util", "manager", "helper", "helpers", "common", "misc"}
    assert not vague & set(name_of(path).lower().split("."))
