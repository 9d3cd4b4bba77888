"""Threads are quiet together, and the filters of the process come back when all are done."""

import threading
import warnings

import pytest

from backend.media.quiet import Quiet


def test_the_last_one_out_puts_the_filters_back() -> None:
    quiet, inside, leave = Quiet(), threading.Event(), threading.Event()

    def stay() -> None:
        with quiet:
            inside.set()
            leave.wait(30)

    before = warnings.filters[:]
    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(30)
    with quiet:
        warnings.warn("nobody hears this", UserWarning, stacklevel=1)
    warnings.warn("nor this, while the other thread is inside", UserWarning, stacklevel=1)
    leave.set()
    thread.join(30)
    assert warnings.filters == before
    with pytest.raises(UserWarning):
        warnings.warn("but this", UserWarning, stacklevel=1)
