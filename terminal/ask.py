"""A conversation in the terminal: questions to an engine, answers to stdout as they come.

Knows engines only by `backend.engine`; what is printed at the end is `terminal.report`'s.
"""

import sys

from backend.conversation import Answer, Conversation, Request, Turn
from backend.engine import Engine, State
from terminal.arguments import Ask
from terminal.interruption import Interruption
from terminal.notice import Notice, loading_line, progress_line
from terminal.report import conversation_object, harmless, statistics_line, write_json

LOOK_S = 0.1  # between two looks at Ctrl-C and at the engine's progress
SESSION = "terminal"
NOT_ASKED = Answer("")


def ask(command: Ask, engine: Engine, interruption: Interruption) -> int:
    """Hold the conversation and print it. Returns the exit status: 0, or 130 after Ctrl-C.

    Raises what the engine raises; answers given before that are printed all the same.
    """
    talk = _Talk(command, engine, interruption)
    try:
        for turn in command.turns:
            talk.take_turn(turn)
            if interruption.came:
                break
    finally:
        talk.conclude()
    return interruption.exit_status


class _Talk:
    """The conversation so far, and how it is shown: as text that comes, or as one object."""

    def __init__(self, command: Ask, engine: Engine, interruption: Interruption) -> None:
        self._command = command
        self._engine = engine
        self._interruption = interruption
        self._conversation = Conversation(system=command.system)
        self._notice = Notice(sys.stderr)

    def take_turn(self, turn: Turn) -> None:
        """Ask, show the answer while it comes, and remember it."""
        asked = self._conversation.asked(turn)
        if self._conversation.turns and not self._command.as_json:
            print()
        self._wait_for_model()
        answer = NOT_ASKED
        if not self._interruption.came:
            answer = self._listen(Request(asked, self._command.sampling, SESSION))
        self._conversation = asked.answered(answer)
        if answer.statistics and not self._command.as_json:
            print(statistics_line(answer.statistics), file=sys.stderr)

    def conclude(self) -> None:
        """Print the object of `--json`, unless nothing was answered."""
        if self._command.as_json and self._conversation.turns:
            model = self._engine.status().model
            print(write_json(conversation_object(model, self._conversation.turns)))

    def _wait_for_model(self) -> None:
        """Wait until the engine can answer, so that its loading does not count as the answer's."""
        while (status := self._engine.status()).state is State.LOADING:
            if self._interruption.came:
                break
            self._notice.show(loading_line(status))
            self._interruption.wait(LOOK_S)
        self._notice.clear()

    def _listen(self, request: Request) -> Answer:
        stream = self._engine.stream(request)
        pieces: list[str] = []
        try:
            while (piece := stream.take(LOOK_S)) is not None:
                if piece:
                    pieces.append(piece)
                    self._show(piece)
                elif not pieces:
                    self._notice.show(progress_line(stream.progress))
                if self._interruption.came:
                    stream.close()
        finally:
            stream.close()
            self._notice.clear()
            if pieces:
                self._show("\n")
        return Answer("".join(pieces), stream.token_ids, stream.statistics)

    def _show(self, text: str) -> None:
        if self._command.as_json:
            return
        self._notice.clear()
        sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()
