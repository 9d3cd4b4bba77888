"""Signals are facts to look at, once; then they do again what they did before."""

import os
import signal
import time

import pytest

from terminal.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_gives_the_status_of_shells(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interruption() as interruption:
        assert (interruption.came, interruption.exit_status) == (False, 0)
        os.kill(os.getpid(), number)
        assert (interruption.came, interruption.exit_status) == (True, 128 + number)
        assert signal.getsignal(number) is before
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_waiting_ends_with_the_signal() -> None:
    with Interruption() as interruption:
        interruption.wait(0.01)
        assert not interruption.came
        os.kill(os.getpid(), signal.SIGTERM)
        interruption.wait(60)
        assert interruption.came
