"""A child that hangs, crashes, eats memory or talks without end is killed and told as such."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from backend.media.stopping import Stopped, never
from backend.media.visit import Broke, Child, TimedOut, visit
from backend.media.wire import Ask, Fault, Tag

ASK = Ask("/nowhere", 10**7, 10**6, memory_bytes=1 << 31, cpu_s=60)
PRELUDE = """
import os, sys, time
from backend.media.child import limit
from backend.media.wire import Tag, write_message
out = sys.stdout.buffer
"""


def child(body: str) -> tuple[str, ...]:
    return (sys.executable, "-c", PRELUDE + textwrap.dedent(body))


def gone(pid: int) -> bool:
    """Whether a process is dead; one whose parent has not asked for it yet is."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while not gone(pid):
        assert time.monotonic() < deadline, "the process still lives"
        time.sleep(0.02)


def test_what_the_child_says_comes_back_in_order() -> None:
    command = child("write_message(out, Tag.TILE, b'abc'); write_message(out, Tag.END)")
    assert visit(ASK, 1000, 60, never, command) == [(Tag.TILE, b"abc"), (Tag.END, b"")]


@pytest.mark.parametrize(
    "body",
    [
        "os.abort()",
        "sys.exit(3)",
        "write_message(out, Tag.TILE, b'half')",
        "out.write(b'\\x04\\xff\\0\\0\\0short')",
        "out.write(b'\\x63\\0\\0\\0\\0')",
        "write_message(out, Tag.TILE, bytes(5000)); write_message(out, Tag.END)",
    ],
)
def test_a_child_that_crashes_or_talks_nonsense_is_broken(body: str) -> None:
    with pytest.raises(Broke):
        visit(ASK, 1000, 60, never, child(body))


def test_a_child_that_talks_without_end_is_cut_short() -> None:
    with pytest.raises(Broke):
        visit(ASK, 10**6, 60, never, child("while True: write_message(out, Tag.TILE, bytes(9999))"))


def test_a_child_that_sleeps_is_killed_with_what_it_started(tmp_path: Path) -> None:
    body = f"""
        import subprocess
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{other.pid}}")
        time.sleep(600)
    """
    begun = threading.Event()

    def stopped() -> bool:
        if (tmp_path / "pids").is_file() and (tmp_path / "pids").read_text():
            begun.set()
        return begun.is_set()

    with pytest.raises(Stopped):
        visit(ASK, 1000, 60, stopped, child(body))
    for pid in (tmp_path / "pids").read_text().split():
        wait_until_gone(int(pid))


def test_a_child_that_takes_too_long_is_killed() -> None:
    with pytest.raises(TimedOut):
        visit(ASK, 1000, 0.3, never, child("time.sleep(600)"))


def test_a_child_that_burns_time_ends_at_its_own_limit() -> None:
    with pytest.raises(Broke):
        visit(ASK, 1000, 60, never, child("limit(1 << 31, 1)\nwhile True: pass"))


def test_a_child_that_eats_memory_ends_at_its_own_limit() -> None:
    body = """
        limit(600 << 20, 60)
        try:
            eaten = bytes(700 << 20)
        except MemoryError:
            write_message(out, Tag.FAULT, b"no memory")
        write_message(out, Tag.END)
    """
    assert visit(ASK, 1000, 60, never, child(body))[0] == (Tag.FAULT, Fault.NO_MEMORY.encode())


def test_the_child_ends_when_the_app_goes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.mp4")  # to open it takes for ever
    process = Child().process
    assert process.stdin and process.stdout
    try:
        process.stdin.write(Ask(str(tmp_path / "never.mp4"), 1, 1, 1 << 31, 60).line())
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.stdin.close()  # as when the app was killed
        process.wait(60)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_real_child_says_why_it_cannot_go_on() -> None:
    assert visit(ASK, 1000, 60, never) == [(Tag.FAULT, Fault.UNREADABLE.encode())]


def test_what_libraries_print_does_not_come_between() -> None:
    body = """
        from backend.media.child import _take_stdout
        answer = _take_stdout()
        os.write(1, b"a library prints this")
        print("and this", flush=True)
        write_message(answer, Tag.END)
    """
    assert visit(ASK, 1000, 60, never, child(body)) == [(Tag.END, b"")]


def test_no_process_and_no_file_is_left_open_by_visits() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        visit(ASK, 1000, 60, never, child("write_message(out, Tag.END)"))
        with pytest.raises(Broke):
            visit(ASK, 1000, 60, never, child("os.abort()"))
    assert len(os.listdir("/proc/self/fd")) == before
