"""What the server remembers of each browser tab: its chat, its unsent files, its running answer.

This is the only truth about a chat. A browser shows it and never sends it back, so a forged
history reaches nobody. Thread-safe: the answer runs on the event loop, Stop and uploads elsewhere.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from backend.conversation import Answer, Attachment, Conversation, End, Request
from backend.engine import Engine, Inability, Stage, Stream
from ui.cards import Card, Draft, Overlay

MOST_SESSIONS = 200  # the least recently used idle one is forgotten first


@dataclass(slots=True)
class Running:
    """An answer being written: its stream, the chat before it, and what goes back if it fails."""

    stream: Stream
    request: Request
    before: Conversation
    question: str = ""
    drafts: tuple[Draft, ...] = ()
    tiles: int = 0  # that the model reads
    read: bool = False  # whether somebody reads the stream

    @property
    def finished(self) -> bool:
        """Whether the model came to an end by itself, be it without a word."""
        statistics = self.stream.statistics
        return statistics is not None and statistics.end in (End.EOS, End.LENGTH)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended: `problem` is HTML for the page, `question` what goes back in the box."""

    problem: str = ""
    question: str = ""


@dataclass(slots=True)
class Session:
    """One tab. `cards` tells how each accepted file looks, `typed` what stands in the box.

    `running` is the answer being written, `outcome` how the last one ended until the page knows.
    """

    key: str
    conversation: Conversation = Conversation()
    drafts: tuple[Draft, ...] = ()
    cards: dict[Attachment, Card] = field(default_factory=dict)
    overlays: dict[Answer, Overlay] = field(default_factory=dict)
    typed: str = ""
    said: str = ""  # the model's line as last shown
    known: object = None  # the checkpoint's facts when last asked, False before there are any
    panel: tuple[object, ...] = ()  # the settings as last seen
    precision: str | None = None  # in which the list of models is shown; None while it is folded
    unable: tuple[Inability, ...] = ()  # what was greyed out when last asked
    running: Running | None = None
    outcome: Outcome | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    _last_key: int = 0

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer here; one that ended unread is waited for no more."""
        running = self.running
        if running is None:
            return True
        return not running.read and running.stream.progress.stage is Stage.ENDED

    def begin(
        self,
        engine: Engine,
        request: Request,
        question: str = "",
        drafts: tuple[Draft, ...] = (),
    ) -> bool:
        """Have `request` answered unless an answer is being written; whether it was begun.

        Raises what `engine.stream` raises; then nothing has changed.
        """
        with self.lock:
            if self.running is not None:
                return False
            stream = engine.stream(request)
            self.running = Running(stream, request, self.conversation, question, drafts)
            self.outcome = None
            self.drafts = tuple(draft for draft in self.drafts if draft not in drafts)
            return True

    def end(self, running: Running, text: str, problem: str, broken_off: bool = False) -> None:
        """The stream of `running` is over: keep the answer, or else give back what was asked.

        Of an answer that broke off the text stays: Retry asks again.
        """
        running.stream.close()
        question = ""
        if (broken_off and text) or (not problem and (text or running.finished)):
            answer = Answer(text, running.stream.token_ids, running.stream.statistics)
            self.conversation = running.request.conversation.answered(answer)
        else:
            self.conversation = running.before
            self.give_back(running.drafts)
            question = joined(running.question, self.typed)
        self.outcome = Outcome(problem, question)
        self.running = None

    def stop(self) -> None:
        """Close the running answer, if there is one."""
        running = self.running
        if running is not None:
            running.stream.close()

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

    def give_back(self, drafts: tuple[Draft, ...]) -> None:
        """Put files back in the box, before those added meanwhile."""
        with self.lock:
            self.drafts = (*drafts, *self.drafts)


def joined(question: str, typed: str) -> str:
    """A question that comes back, before what was typed meanwhile."""
    if question.startswith(typed.strip()):
        return question
    return f"{question}\n{typed}" if question else typed


class Sessions:
    """All tabs, by the hash that Gradio gives each."""

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: str) -> Session:
        """The session called `key`, new if it was never seen."""
        with self._lock:
            session = self._sessions.setdefault(key, Session(key))
            self._sessions.move_to_end(key)
            self._make_room(session)
            return session

    def begin_anew(self, key: str) -> None:
        """Begin anew in a tab; what it shows of the model stays."""
        with self._lock:
            old = self._sessions.pop(key, None)
            if old is not None:
                self._sessions[key] = Session(
                    key, said=old.said, known=old.known, precision=old.precision, unable=old.unable
                )

    def __len__(self) -> int:
        return len(self._sessions)

    def _make_room(self, asked: Session) -> None:
        idle = [key for key, one in self._sessions.items() if one.idle and one is not asked]
        for key in idle[: max(0, len(self._sessions) - self._most)]:
            del self._sessions[key]
