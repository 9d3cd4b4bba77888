"""One line tells what happens, where somebody watches, and leaves nothing behind."""

import io
from dataclasses import replace

from backend.engine import Progress, Stage, State, Status
from terminal.notice import Notice, loading_line, progress_line


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_is_rewritten_in_place_and_taken_away() -> None:
    screen = Screen()
    notice = Notice(screen)
    for line in ("Loading, 1 %", "Loading, 1 %", "Loading, 2 %"):
        notice.show(line)
    notice.clear()
    notice.clear()
    assert screen.getvalue() == "\r\x1b[KLoading, 1 %\r\x1b[KLoading, 2 %\r\x1b[K"


def test_nothing_is_written_where_nobody_watches() -> None:
    log = io.StringIO()
    notice = Notice(log)
    notice.show("Loading")
    notice.clear()
    assert log.getvalue() == ""


def test_lines_say_what_happens() -> None:
    status = Status(State.LOADING, "toy", share=0.634)
    assert loading_line(status) == "Loading toy, 63 %"
    fetching = replace(status, doing="downloading 2.6 of 4.2 GB")
    assert loading_line(fetching) == "Loading toy, 63 %: downloading 2.6 of 4.2 GB"
    assert progress_line(Progress(Stage.READING)) == "Reading …"
    assert progress_line(Progress(Stage.WRITING)) == ""
