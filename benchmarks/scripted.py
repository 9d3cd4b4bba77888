"""An engine without a model: it writes words at a steady pace, so only the page counts."""

import threading
import time

from backend.conversation import Attachment, Request
from backend.engine import State, Status
from backend.stream import AnswerStream

PACE_S = 0.04  # between two words: one at least for every flush of the page


class ScriptedEngine:
    """Answers every question with `words` words; satisfies `backend.engine.Engine`."""

    def __init__(self, words: int) -> None:
        self._words = words

    def stream(self, request: Request) -> AnswerStream:
        """Begin to write."""
        stream = AnswerStream(request)
        threading.Thread(target=self._write, args=(stream,), daemon=True).start()
        return stream

    def expect(self, session: str, files: tuple[Attachment, ...]) -> None:
        """There are no files."""

    def status(self) -> Status:
        """Always ready."""
        return Status(State.READY, "scripted", share=1.0)

    def close(self) -> None:
        """Nothing to free."""

    def _write(self, stream: AnswerStream) -> None:
        stream.begin(prompt_tokens=60, visual_tokens=0)
        for number in range(self._words):
            if stream.closed:
                return
            stream.write(f"word{number} ", [number])
            time.sleep(PACE_S)
        stream.finish()
