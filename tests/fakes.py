"""Stand-ins for what tests cannot have: an engine that follows a script.

It speaks the real interface through the real stream, so that a page or a terminal tested with it
meets every behaviour of an engine: pieces of text, waiting, errors at any point, being stopped.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from backend.conversation import Attachment, End, Request
from backend.engine import Progress, Stage, State, Status
from backend.errors import EngineFailed
from backend.stream import AnswerStream


class FakeEngine:
    """Answers with what was enqueued: texts, numbers (seconds to wait) and exceptions."""

    def __init__(self, model: str = "fake") -> None:
        self.requests: list[Request] = []
        self.streams: list[AnswerStream] = []
        self.expected: dict[str, tuple[Attachment, ...]] = {}
        self.now = Status(
            State.READY, model, share=1.0, device="cpu", precision="float32", attention="sdpa"
        )
        self.closed = False
        self._scripts: deque[Sequence[str | float | Exception]] = deque()

    def enqueue(self, script: Sequence[str | float | Exception]) -> None:
        """The next request is answered by following `script`."""
        self._scripts.append(script)

    def become(self, state: State, share: float = 0.0, reason: str = "") -> None:
        """Load, fail or be ready, as the script of a test wants it."""
        self.now = replace(self.now, state=state, share=share, reason=reason)

    def stream(self, request: Request) -> AnswerStream:
        """Begin to follow the next script in a thread of its own."""
        if self.now.state is State.FAILED:
            raise EngineFailed(self.now.reason, "Restart the app.")
        self.requests.append(request)
        stream = AnswerStream(request)
        self.streams.append(stream)
        script = self._scripts.popleft() if self._scripts else ["An answer."]
        threading.Thread(target=self._follow, args=(script, stream), daemon=True).start()
        return stream

    def expect(self, session: str, files: tuple[Attachment, ...]) -> None:
        """Remember the hint."""
        self.expected[session] = files

    def status(self) -> Status:
        """What the test said it is."""
        return self.now

    def close(self) -> None:
        """End every stream."""
        self.closed = True
        for stream in self.streams:
            stream.close()

    def _follow(self, script: Sequence[str | float | Exception], stream: AnswerStream) -> None:
        stream.advance(Progress(Stage.WAITING, ahead=1))
        stream.begin(prompt_tokens=60, visual_tokens=16)
        for number, step in enumerate(script):
            if stream.closed:
                return
            if isinstance(step, Exception):
                stream.finish(error=step)
                return
            if isinstance(step, str):
                stream.write(step, [number])
            else:
                self._wait(step, stream)
        stream.finish(End.EOS)

    def _wait(self, seconds: float, stream: AnswerStream) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not stream.closed:
            time.sleep(0.01)
