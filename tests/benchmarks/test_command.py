"""The command line, with measurements that are made up."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.measurement import Measurement
from benchmarks.readme import BEGIN, END, block_of
from benchmarks.suite import NAMES
from tests.benchmarks.reports import QUICK


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], bool]]:
    """What was measured, in place of measuring it."""
    calls: list[tuple[tuple[str, ...], bool]] = []

    def measure(names: Sequence[str], quick: bool) -> Iterator[Measurement]:
        calls.append((tuple(names), quick))
        yield QUICK

    monkeypatch.setattr(command, "measure", measure)
    return calls


def test_without_names_everything_is_measured(
    asked: list[tuple[tuple[str, ...], bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([]) == 0
    assert asked == [(NAMES, False)]
    assert QUICK.name in capsys.readouterr().out


def test_names_and_quick_are_handed_on(asked: list[tuple[tuple[str, ...], bool]]) -> None:
    command.main(["flush", "stop", "--quick"])
    assert asked == [(("flush", "stop"), True)]


@pytest.mark.usefixtures("asked")
def test_json_is_written_with_this_machine_and_these_versions(tmp_path: Path) -> None:
    command.main(["stop", "--json", str(tmp_path / "figures.json")])
    whole = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert whole["machine"]["cores"] >= 1
    assert {"python", "torch", "gradio", "commit"} <= set(whole["versions"])
    assert [entry["name"] for entry in whole["measurements"]] == [QUICK.name]


@pytest.mark.usefixtures("asked")
def test_readme_prints_markdown_and_update_puts_it_into_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    command.main(["stop", "--readme", "--update", str(readme)])
    printed = capsys.readouterr().out.strip()
    assert printed.startswith("| what |")
    assert block_of(readme.read_text(encoding="utf-8")) == printed


def test_an_unknown_name_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["speed"])
    assert ended.value.code == 2
    assert "'speed'" in (said := capsys.readouterr().err)
    assert all(name in said for name in NAMES)


def test_every_name_is_a_module_that_measures() -> None:
    assert all(callable(import_module(f"benchmarks.{name}").measure) for name in NAMES)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, benchmarks.__main__ as command\n"
        "try: command.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'gradio' in sys.modules)"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False)
    assert done.returncode == 0
    assert b"--quick" in done.stdout
