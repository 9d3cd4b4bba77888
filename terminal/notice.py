"""One quiet line on stderr that tells what is going on, rewritten in place.

Where stderr is no terminal (a log, a pipe) nothing is rewritten and nothing is written.
"""

from typing import TextIO

from backend.engine import Progress, Stage, State, Status

STAGES = {
    Stage.PREPARING: "Opening the files",
    Stage.READING: "Reading",
}


class Notice:
    """The line; `show` replaces it, `clear` takes it away."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = ""

    def show(self, line: str) -> None:
        """Have the line say this."""
        if line != self._shown and self._out.isatty():
            self._out.write("\r\x1b[K" + line)
            self._out.flush()
            self._shown = line

    def clear(self) -> None:
        """Leave nothing behind."""
        self.show("")


def what_happens(status: Status, progress: Progress) -> str:
    """`Loading bundled, 63 %`, `Reading …`; nothing once the answer is being written."""
    if status.state is State.LOADING:
        return loading_line(status)
    if progress.stage is Stage.WAITING:
        return f"{progress.ahead} before this question" if progress.ahead else "Waiting"
    return STAGES.get(progress.stage, "")


def loading_line(status: Status) -> str:
    """How far the model is."""
    return f"Loading {status.model}, {status.share:.0%}"
