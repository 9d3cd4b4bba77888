"""Fetching a repository with the hub's own client, told in bytes, and left when nobody wants it.

The client draws bars and cannot be stopped. So it works in a thread of its own and is given bars
that count; whoever follows may raise, and then the client ends at its next bar. One that hangs on
the network ends later, without anybody waiting for it: what it fetched is kept by its cache.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Follow = Callable[[int, int], None]  # is told bytes here, bytes in all; may raise to stop
LOOK_S = 0.2


class Left(Exception):
    """Nobody waits for the download any more. Never leaves this file."""


class Tally:
    """Bytes that have come, by bar: the client has one for what is received and one for what is
    written, and the received ones may be compressed."""

    def __init__(self) -> None:
        self.total = 0  # 0 until it is known, and when everything is here already
        self.left = False
        self._bars: list[Bar] = []

    @property
    def done(self) -> int:
        """Bytes here, as far as the bar that is ahead knows."""
        return min(self.total, max((bar.n for bar in self._bars), default=0))

    def make_bar(self, *_: Any, total: int | None = None, unit: str = "", **__: Any) -> "Bar":
        """A bar as the client wants one; those of bytes are counted."""
        bar = Bar(self, total)
        if unit == "B":
            self._bars.append(bar)
        return bar


class Bar:
    """What the client calls of a tqdm bar (huggingface_hub 2.4), drawing nothing."""

    def __init__(self, tally: Tally, total: int | None) -> None:
        self.n = 0
        self.total = total
        self.format_dict: dict[str, Any] = {}
        self._tally = tally

    def update(self, n: float | None = 1) -> None:
        """Count; raises `Left` to end the download."""
        if self._tally.left:
            raise Left
        self.n += int(n or 0)

    def refresh(self) -> None:
        """Nothing is drawn."""

    def set_description(self, *_: Any, **__: Any) -> None:
        """Nothing is drawn."""

    set_description_str = set_postfix_str = set_description

    def close(self) -> None:
        """Nothing is left behind."""

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fetch(download: Callable[..., Any], follow: Follow) -> "Future[str]":
    """What `download`, the hub's `snapshot_download` with its arguments, came to.

    Raises nothing but what `follow` raises, and that at once; it is called several times a second,
    with 0 bytes in all as long as it is not known what has to come.
    """
    tally, outcome = Tally(), Future[str]()
    thread = threading.Thread(target=_work, args=(download, tally, outcome), daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(LOOK_S)
            follow(tally.done, tally.total)
    except BaseException:  # whatever it is, nobody waits for the client any more
        tally.left = True
        raise
    return outcome


def _work(download: Callable[..., Any], tally: Tally, outcome: "Future[str]") -> None:
    """The client's thread."""
    try:
        tally.total = _measure(download)
        outcome.set_result(download(tqdm_class=tally.make_bar))
    except BaseException as error:  # raised again where the outcome is asked for
        outcome.set_exception(error)


def _measure(download: Callable[..., Any]) -> int:
    """Bytes that have to come; 0 if none, or if the hub cannot be asked."""
    from huggingface_hub.errors import DryRunError

    try:
        files = download(dry_run=True, tqdm_class=Tally().make_bar)
    except DryRunError:  # what is here may be enough, and the next call tells why if not
        return 0
    return sum(file.file_size or 0 for file in files if file.will_download)
