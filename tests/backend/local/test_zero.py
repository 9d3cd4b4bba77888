"""Answers on lent GPUs, tried in a process of its own: `zero_cases.py` has the cases.

A fork inherits locks and pools of threads of the process it comes from, and of those of a process
that has computed before some are held or gone for ever. A Space forks a process that never has.
"""

import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("zero_cases.py")
ROOT = Path(__file__).parents[3]


def test_every_case_of_lent_gpus_passes_in_a_process_that_computed_nothing_before() -> None:
    command = [sys.executable, "-m", "pytest", str(CASES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
