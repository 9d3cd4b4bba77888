"""Whatever happens inside, a shell gets an exit status and at most one line of reason."""

import subprocess
import sys
from pathlib import Path

import pytest

from backend.errors import (
    BadCheckpoint,
    BadFile,
    BadQuestion,
    EngineBusy,
    EngineFailed,
    OutOfMemory,
    TooLong,
)
from terminal.border import run_guarded

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadFile("a.png", "it is empty.", "Add it again."), 2),
        (BadQuestion("There is\nno question.", "Ask."), 2),
        (TooLong("40 of 32 tokens.", "Use 6 tiles."), 2),
        (BadCheckpoint("No weights.", "Download them."), 2),
        (EngineFailed("The model failed.", "Ask again."), 3),
        (EngineBusy("Full.", "Wait."), 3),
        (OutOfMemory("No room.", "Use 6 tiles."), 3),
        (ZeroDivisionError("a fault of ours"), 3),
    ],
)
def test_errors_become_one_line_and_a_status(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert run_guarded(fail) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1 and "Traceback" not in said.err
    assert all(word in said.err for word in str(error).split())


def test_ctrl_c_anywhere_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def press() -> int:
        raise KeyboardInterrupt

    assert run_guarded(press) == 130
    assert capsys.readouterr().err == ""


def run_python(code: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-c", f"from terminal.border import run_guarded\n{code}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        timeout=20,
    )


def test_output_is_utf8_whatever_the_locale_says() -> None:
    ended = run_python("run_guarded(lambda: print('红 🟥') or 0)", PYTHONIOENCODING="ascii")
    assert (ended.stdout.decode("utf-8"), ended.stderr) == ("红 🟥\n", b"")


def test_bytes_that_are_no_text_come_back_as_escapes() -> None:
    ended = run_python("run_guarded(lambda: print('a\\udcff') or 0)")
    assert (ended.stdout, ended.stderr) == (b"a\\udcff\n", b"")


def test_a_reader_that_leaves_is_no_fault_of_ours() -> None:
    code = (
        "import sys\nfrom terminal.border import run_guarded\n"
        "sys.exit(run_guarded(lambda: [print('x' * 999) for _ in range(999)] and 0))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_shell_closed_are_no_fault(closed: str) -> None:
    code = (
        "import sys\nfrom terminal.border import leave, run_guarded\n"
        "leave(run_guarded(lambda: [print('out'), print('err', file=sys.stderr)] and 7))"
    )
    line = f'exec {sys.executable} -c "$CODE" {closed}'
    ended = subprocess.run(
        ["/bin/sh", "-c", line], cwd=ROOT, env={"CODE": code}, capture_output=True, timeout=20
    )
    assert ended.returncode == 7
    assert ended.stdout + ended.stderr in (b"", b"out\n", b"err\n")


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        raise BadFile("\x1b[2Ja.png", "it is empty.", "Add it again.")

    assert run_guarded(refuse) == 2
    assert capsys.readouterr().err == "␛[2Ja.png: it is empty. Add it again.\n"
