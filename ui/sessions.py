"""What the server remembers of each browser tab: its chat, its unsent files, its running answer.

This is the only truth about a chat. A browser shows it and never sends it back, so a forged
history reaches nobody. Thread-safe: the answer runs on the event loop, Stop and uploads elsewhere.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from backend.conversation import Answer, Attachment, Conversation, Request
from backend.engine import Engine, Stream
from ui.cards import Card, Draft, Overlay

MOST_SESSIONS = 200  # the least recently used idle one is forgotten first


@dataclass(slots=True)
class Session:
    """One tab. `cards` tells how each accepted file looks, `typed` what stands in the box."""

    key: str
    conversation: Conversation = Conversation()
    drafts: tuple[Draft, ...] = ()
    cards: dict[Attachment, Card] = field(default_factory=dict)
    overlays: dict[Answer, Overlay] = field(default_factory=dict)
    typed: str = ""
    tiles: int = 0  # of the question being answered
    said: str = ""  # the model's line as last shown
    known: bool | None = None  # whether the checkpoint's facts were when last asked
    stream: Stream | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    _last_key: int = 0

    @property
    def running(self) -> bool:
        """Whether an answer is being written."""
        return self.stream is not None

    @contextmanager
    def answering(self, engine: Engine, request: Request) -> Iterator[Stream]:
        """A stream that ends with the block, however the block ends."""
        stream = engine.stream(request)
        self.stream = stream
        try:
            yield stream
        finally:
            stream.close()
            self.stream = None

    def stop(self) -> None:
        """Close the running answer, if there is one."""
        stream = self.stream
        if stream is not None:
            stream.close()

    def add(self, name: str, attachment: Attachment | None, problem: str = "") -> None:
        """One more unsent file."""
        with self.lock:
            self._last_key += 1
            draft = Draft(self._last_key, name, attachment, problem)
            self.drafts = (*self.drafts, draft)

    def add_first(self, attachment: Attachment) -> None:
        """A file comes back into the box."""
        with self.lock:
            self._last_key += 1
            self.drafts = (Draft(self._last_key, attachment.name, attachment), *self.drafts)

    def change(self, key: int, attachment: Attachment) -> None:
        """Another choice for an unsent file."""
        with self.lock:
            self.drafts = tuple(
                Draft(key, draft.name, attachment) if draft.key == key else draft
                for draft in self.drafts
            )

    def refuse(self, key: int, problem: str) -> None:
        """An unsent file turned out to be unusable."""
        with self.lock:
            self.drafts = tuple(
                Draft(key, draft.name, problem=problem) if draft.key == key else draft
                for draft in self.drafts
            )

    def remove(self, key: int) -> None:
        """Forget an unsent file."""
        with self.lock:
            self.drafts = tuple(draft for draft in self.drafts if draft.key != key)

    def take_drafts(self) -> tuple[Draft, ...]:
        """The unsent files, which leave the box."""
        with self.lock:
            drafts, self.drafts = self.drafts, ()
            return drafts

    def give_back(self, drafts: tuple[Draft, ...]) -> None:
        """Put files back in the box, before those added meanwhile."""
        with self.lock:
            self.drafts = (*drafts, *self.drafts)


class Sessions:
    """All tabs, by the hash that Gradio gives each."""

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: str) -> Session:
        """The session called `key`, new if it was never seen or forgotten."""
        with self._lock:
            session = self._sessions.setdefault(key, Session(key))
            self._sessions.move_to_end(key)
            self._forget()
            return session

    def forget(self, key: str) -> None:
        """Let go of a session; the tab's next event begins a new one."""
        with self._lock:
            self._sessions.pop(key, None)

    def __len__(self) -> int:
        return len(self._sessions)

    def _forget(self) -> None:
        idle = [key for key, session in self._sessions.items() if not session.running]
        for key in idle[: max(0, len(self._sessions) - self._most)]:
            del self._sessions[key]
