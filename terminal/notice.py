"""One quiet line on stderr that tells what is going on, rewritten in place.

Where stderr is no terminal (a log, a pipe) nothing is rewritten and nothing is written.
"""

from typing import TextIO

from backend.engine import Progress, Stage, Status

STAGES = {
    Stage.PREPARING: "Opening the files …",
    Stage.WAITING: "Waiting …",
    Stage.READING: "Reading …",
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


def loading_line(status: Status) -> str:
    """How far the model is: `Loading 2B, 63 %: downloading 2.9 of 4.2 GB`."""
    doing = f": {status.doing}" if status.doing else ""
    return f"Loading {status.model}, {100 * status.share:.0f} %{doing}"


def progress_line(progress: Progress) -> str:
    """What happens before the first word; nothing once the answer is being written."""
    return STAGES.get(progress.stage, "")
