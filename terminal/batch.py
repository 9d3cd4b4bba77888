"""Many questions from a file: one row of JSON each, answered in order, faults told in place.

Rows are independent: each is a conversation of one question with any number of files. As many are
asked as the engine answers at the same time. Answers are written in the order of their rows, so
that an interrupted run goes on where it ended. Knows engines only by `backend.engine`.
"""

import json
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from backend.conversation import Answer, Conversation, Kind, Request, Turn
from backend.engine import Engine, Stage, State, Stream
from backend.errors import BadFile, BadInput, BadQuestion, BadSetting, EngineError
from terminal.arguments import Batch
from terminal.dry_run import check_kinds
from terminal.files import read_file_word
from terminal.interruption import Interruption
from terminal.notice import Notice, loading_line
from terminal.report import turn_object, write_json

AHEAD = 1  # rows beside those being answered, whose files are opened meanwhile
KEPT = 4  # rows with the engine and answered before their turn, as a multiple of those at once
LOOK_S = 0.1
SESSION = "batch"
KEYS = {"question", "images", "videos", "combined", "id"}
Asked = Stream | BadInput


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the file: a question as it was written, its turn, or why there is none."""

    number: int  # of the line, from 1
    question: object = None
    turn: Turn | None = None
    fault: BadInput | None = None
    own_id: object = None  # whatever the file calls the row; it comes back with the answer


def answer_rows(command: Batch, engine: Engine, interruption: Interruption) -> int:
    """Answer all rows that have no answer yet. Returns the exit status: 0, or 130 after Ctrl-C.

    Raises `BadInput` for a file of rows or answers that cannot be used, and what ends the engine.
    """
    rows = read_rows(command.rows)
    with open_answers(command.out, rows) as (out, done):
        _Batch(command, engine, interruption, len(rows)).answer(rows[done:], out)
    return interruption.exit_status


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a file; empty lines count but are none. Raises `BadFile` without any."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        cause = f"it cannot be read ({error.strerror})."
        raise BadFile(path.name, cause, "Give rows of JSON.") from error
    except UnicodeDecodeError as error:
        raise BadFile(path.name, "it is no text in UTF-8.", "Give rows of JSON.") from error
    rows = [_read_row(n, line, path.parent) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise BadFile(path.name, "it has no rows.", "Write one JSON object a line.")
    return tuple(rows)


@contextmanager
def open_answers(path: Path | None, rows: Sequence[Row]) -> Iterator[tuple[TextIO, int]]:
    """Where answers go, and how many are there already; a line cut short is taken away.

    Raises `BadSetting` when the answers there are to other rows, and `BadFile` for a file that
    cannot be written.
    """
    if path is None:
        yield sys.stdout, 0
        return
    try:
        out, done = _open_at_end(path, rows)
    except OSError as error:
        cause = f"it cannot be written ({error.strerror})."
        raise BadFile(path.name, cause, "Name another.") from error
    with out:
        yield out, done


def _open_at_end(path: Path, rows: Sequence[Row]) -> tuple[TextIO, int]:
    kept = path.read_bytes() if path.exists() else b""
    kept = kept[: kept.rfind(b"\n") + 1]
    told = [_told(line) for line in kept.splitlines()]
    if told != [(row.number, row.question) for row in rows[: len(told)]]:
        raise BadSetting(f"{path} holds other things than answers to these rows.", "Name another.")
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(len(kept))
    return path.open("a", encoding="utf-8"), len(told)


class _Batch:
    def __init__(
        self, command: Batch, engine: Engine, interruption: Interruption, rows: int
    ) -> None:
        self._command = command
        self._engine = engine
        self._interruption = interruption
        self._rows = rows
        self._left: deque[Row] = deque()
        self._asked: deque[tuple[Row, Asked]] = deque()
        self._notice = Notice(sys.stderr)

    def answer(self, rows: Sequence[Row], out: TextIO) -> None:
        self._left.extend(rows)
        done = self._rows - len(rows)
        try:
            while not self._interruption.came:
                self._ask_more()
                if not self._asked:
                    break
                answered = self._listen(*self._asked[0], done)
                self._asked.popleft()
                if not self._interruption.came:
                    done += 1
                    out.write(write_json(answered) + "\n")
                    out.flush()
        finally:
            self._notice.clear()
            for _, asked in self._asked:
                if not isinstance(asked, BadInput):
                    asked.close()

    def _ask_more(self) -> None:
        """Keep the engine busy, also while an early row takes longer than later ones."""
        at_once = self._command.at_once or self._engine.status().at_once
        most = at_once + AHEAD
        while self._left and len(self._asked) < KEPT * most and self._unanswered() < most:
            row = self._left.popleft()
            self._asked.append((row, self._ask(row)))

    def _unanswered(self) -> int:
        streams = (asked for _, asked in self._asked if not isinstance(asked, BadInput))
        return sum(stream.progress.stage is not Stage.ENDED for stream in streams)

    def _ask(self, row: Row) -> Asked:
        if row.turn is None:
            return row.fault or BadQuestion("There is no question.", "Write one.")
        try:
            check_kinds((row.turn,))
        except BadInput as error:
            return error
        conversation = Conversation((row.turn,), system=self._command.system)
        return self._engine.stream(Request(conversation, self._command.sampling, SESSION))

    def _listen(self, row: Row, asked: Asked, done: int) -> dict[str, object]:
        """The object of a row: its answer, or its error."""
        known: dict[str, object] = {"row": row.number, "question": row.question}
        if row.own_id is not None:
            known["id"] = row.own_id
        if isinstance(asked, BadInput):
            return known | {"error": str(asked)}
        pieces: list[str] = []
        try:
            while (piece := asked.take(LOOK_S)) is not None:
                pieces.append(piece)
                self._ask_more()
                self._tell(done)
                if self._interruption.came:
                    asked.close()
        except EngineError as error:
            if self._engine.status().state is State.FAILED:
                raise
            return known | {"error": str(error)}
        answer = Answer("".join(pieces), asked.token_ids, asked.statistics)
        return known | turn_object(str(row.question), answer)

    def _tell(self, done: int) -> None:
        status = self._engine.status()
        if status.state is State.LOADING:
            self._notice.show(loading_line(status))
        else:
            self._notice.show(f"{done} of {self._rows} rows, {done / self._rows:.0%}")


def _told(line: bytes) -> tuple[object, object]:
    try:
        told = json.loads(line)
    except ValueError:
        return None, None
    return (told.get("row"), told.get("question")) if isinstance(told, dict) else (None, None)


def _read_row(number: int, line: str, folder: Path) -> Row:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(number, fault=BadQuestion(f"This is no JSON ({error}).", "Correct the row."))
    if not isinstance(told, dict):
        return Row(number, fault=BadQuestion("This is no JSON object.", "Correct the row."))
    question, own_id = told.get("question"), told.get("id")
    try:
        return Row(number, question, _read_turn(told, folder), own_id=own_id)
    except BadInput as fault:
        return Row(number, question, fault=fault, own_id=own_id)


def _read_turn(told: dict[str, Any], folder: Path) -> Turn:
    unknown = sorted(told.keys() - KEYS)
    if unknown:
        raise BadSetting(f"A row has no {unknown[0]!r}.", f"It has {', '.join(sorted(KEYS))}.")
    question, combined = told.get("question"), told.get("combined", False)
    if not isinstance(question, str) or not question.strip():
        raise BadQuestion("There is no question.", "Write one.")
    if not isinstance(combined, bool):
        raise BadSetting(f"combined is {combined!r}.", "Say true or false.")
    files = tuple(
        read_file_word(str(folder / word) if word else "", kind)
        for key, kind in (("images", Kind.IMAGE), ("videos", Kind.VIDEO))
        for word in _words(told.get(key, []), key)
    )
    return Turn(question, files, combined=combined)


def _words(value: object, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise BadSetting(f"{key} is no list of file names.", "Write them in [ ].")
    return value
