"""The waiting line: bounded, fair between sessions, and telling everybody their place.

    engine: join(ticket)    preparation: next_unprepared()    worker: take() … done()

Sessions take turns; within a session requests keep the order in which they were asked. Whoever
is being served goes to the back, so that many questions of one person delay another by at most
one. It knows nothing of models: a ticket is a stream and, once prepared, what the worker needs.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import zip_longest

from backend.engine import Progress, Stage
from backend.errors import EngineBusy
from backend.local.preparation import Prepared
from backend.stream import AnswerStream


class Place(Enum):
    """How far a waiting request is."""

    ASKED = auto()
    PREPARING = auto()
    PREPARED = auto()


@dataclass(eq=False)
class Ticket:
    """One request in line; its fields are guarded by the line."""

    stream: AnswerStream
    place: Place = Place.ASKED
    prepared: Prepared | None = field(default=None, repr=False)

    @property
    def session(self) -> str:
        """Who asked."""
        return self.stream.request.session


class WaitingLine:
    """Requests that wait for the model, at most `most` beside the one being served.

    A quarter of the places is kept for sessions that have none yet.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._changed = threading.Condition()
        self._sessions: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._served: Ticket | None = None
        self._shut = False

    def __len__(self) -> int:
        with self._changed:
            return self._count()

    def join(self, ticket: Ticket) -> None:
        """Take a place at the end of the session's own line; raises `EngineBusy` without one."""
        with self._changed:
            self._require_room(ticket.session)
            self._sessions.setdefault(ticket.session, deque()).append(ticket)
            if self._served is not None and self._served.session in self._sessions:
                self._sessions.move_to_end(self._served.session)
            self._tell()
        ticket.stream.call_on_close(lambda: self.leave(ticket))

    def leave(self, ticket: Ticket) -> None:
        """Give up the place, if the ticket still has one."""
        with self._changed:
            tickets = self._sessions.get(ticket.session, deque())
            if ticket in tickets:
                tickets.remove(ticket)
                self._drop_if_empty(ticket.session)
                self._tell()

    def next_unprepared(self) -> Ticket | None:
        """Wait for a request to prepare, the one served soonest first; `None` once shut."""
        return self._wait(self._unprepared)

    def prepared(self, ticket: Ticket, prepared: Prepared) -> None:
        """Let the worker have the ticket when it is its turn."""
        with self._changed:
            ticket.prepared = prepared
            ticket.place = Place.PREPARED
            self._tell()

    def take(self) -> Ticket | None:
        """Wait for the next request and serve it: call `done` afterwards. `None` once shut."""
        return self._wait(self._next)

    def done(self) -> None:
        """The request taken last has been served."""
        with self._changed:
            self._served = None
            self._tell()

    def shut(self) -> list[Ticket]:
        """Let nobody wait any more; returns the tickets in line and the one being served."""
        with self._changed:
            self._shut = True
            left = self._in_order() + ([self._served] if self._served else [])
            self._sessions.clear()
            self._changed.notify_all()
        return left

    def _wait(self, find: Callable[[], Ticket | None]) -> Ticket | None:
        with self._changed:
            while not self._shut:
                ticket = find()
                if ticket is not None:
                    return ticket
                self._changed.wait()
        return None

    def _unprepared(self) -> Ticket | None:
        for ticket in self._in_order():
            if ticket.place is Place.ASKED:
                ticket.place = Place.PREPARING
                return ticket
        return None

    def _next(self) -> Ticket | None:
        for session, tickets in self._sessions.items():
            if tickets[0].place is Place.PREPARED:
                self._served = tickets.popleft()
                self._sessions.move_to_end(session)
                self._drop_if_empty(session)
                self._tell()
                return self._served
        return None

    def _require_room(self, session: str) -> None:
        waiting, own = self._count(), len(self._sessions.get(session, ()))
        places = self._most + (self._served is None)
        if waiting >= places:
            raise EngineBusy(f"{waiting} questions wait already.", "Ask again in a moment.")
        if own and waiting >= places - self._most // 4:
            raise EngineBusy(
                f"{own} of your questions wait already, of {waiting} in all.",
                "Ask again when one of them is answered.",
            )

    def _in_order(self) -> list[Ticket]:
        """Everybody in the order of being served, if all are prepared in time."""
        rounds = zip_longest(*self._sessions.values())
        return [ticket for turn in rounds for ticket in turn if ticket is not None]

    def _tell(self) -> None:
        served = 0 if self._served is None else 1
        for ahead, ticket in enumerate(self._in_order(), served):
            ready = ticket.place is Place.PREPARED
            stage = Stage.WAITING if ready else Stage.PREPARING
            ticket.stream.advance(Progress(stage, ahead))
        self._changed.notify_all()

    def _count(self) -> int:
        return sum(map(len, self._sessions.values()))

    def _drop_if_empty(self, session: str) -> None:
        if not self._sessions[session]:
            del self._sessions[session]
