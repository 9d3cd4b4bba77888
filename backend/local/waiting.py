"""The waiting line: bounded, fair between sessions, and telling everybody their place.

    engine: join(ticket)    preparation: next_unprepared()    worker: take() … done(ticket)

Sessions take turns; within a session requests keep the order in which they were asked. Whoever
is being served goes to the back, so that many questions of one person delay another by at most
one. Several may be served at once; who must be served alone waits for others of that manner
only. It knows nothing of models: a ticket is a stream and, once prepared, what the worker needs.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import zip_longest

from backend.engine import Progress, Stage
from backend.errors import EngineBusy
from backend.local.preparation import Prepared
from backend.local.together.ability import must_be_alone
from backend.stream import AnswerStream

LATELY_S = 30.0  # somebody who asked so long ago may soon ask again


class Manner(Enum):
    """How the worker would serve a ticket now."""

    TOGETHER = auto()  # along with those who are being served
    ALONE = auto()  # with nobody else of this manner
    LATER = auto()  # when somebody has left, and nobody may overtake it


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
    alone: bool = field(init=False)  # whether it is, or surely will be, served in that manner

    def __post_init__(self) -> None:
        self.alone = must_be_alone(self.stream.request.sampling)

    @property
    def session(self) -> str:
        """Who asked."""
        return self.stream.request.session


class WaitingLine:
    """Requests that wait for the model, at most `most` beside those being served.

    A quarter of the places is kept for sessions that have none yet.
    """

    def __init__(
        self, most: int, at_once: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._clock = clock
        self._asked: dict[str, float] = {}  # when each session asked last, of late
        self._at_once = at_once
        self._changed = threading.Condition()
        self._sessions: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._served: list[Ticket] = []
        self._shut = False

    def __len__(self) -> int:
        with self._changed:
            return self._count()

    @property
    def is_shut(self) -> bool:
        """Whether nobody is served any more."""
        return self._shut

    def serve(self, at_once: int) -> None:
        """Serve so many tickets at once from now on."""
        with self._changed:
            self._at_once = at_once
            self._tell()

    def join(self, ticket: Ticket) -> None:
        """Take a place at the end of the session's own line; raises `EngineBusy` without one."""
        with self._changed:
            self._require_room(ticket.session)
            self._sessions.setdefault(ticket.session, deque()).append(ticket)
            now = self._clock()
            self._asked = {one: at for one, at in self._asked.items() if now - at < LATELY_S}
            self._asked[ticket.session] = now
            for served in self._served:
                if served.session in self._sessions:
                    self._sessions.move_to_end(served.session)
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

    def has_company(self, ticket: Ticket) -> bool:
        """Whether others wait or are served beside the ticket, or somebody else asked lately."""
        with self._changed:
            others = self._count() + len(self._served) > 1
            since = self._clock() - LATELY_S
            return others or any(
                at > since for one, at in self._asked.items() if one != ticket.session
            )

    @property
    def serves_alone(self) -> bool:
        """Whether somebody is answered alone now, so that nobody else can be."""
        return any(served.alone for served in self._served)

    def next_unprepared(self) -> Ticket | None:
        """Wait for a request to prepare, the one served soonest first; `None` once shut."""
        return self._wait(self._unprepared)

    def prepared(self, ticket: Ticket, prepared: Prepared) -> None:
        """Let the worker have the ticket when it is its turn."""
        with self._changed:
            ticket.prepared = prepared
            ticket.place = Place.PREPARED
            self._tell()

    def take(
        self,
        judge: Callable[[Ticket], Manner] = lambda _: Manner.ALONE,
        wait: bool = True,
        until: Callable[[], bool] = lambda: False,
    ) -> Ticket | None:
        """Serve the next request: call `done` afterwards. `judge` tells how it would be served.

        `None` once shut and, unless it may `wait`, when nobody can be served now. Waiting ends
        as well when `until` says so, which is asked again at each `wake`.
        """
        if wait:
            return self._wait(lambda: self._next(judge), until)
        with self._changed:
            return None if self._shut else self._next(judge)

    def done(self, ticket: Ticket) -> None:
        """A request that was taken has been served."""
        with self._changed:
            self._served.remove(ticket)
            self._tell()

    def shut(self) -> list[Ticket]:
        """Let nobody wait any more; returns the tickets in line and those being served."""
        with self._changed:
            self._shut = True
            left = self._in_order() + self._served
            self._sessions.clear()
            self._changed.notify_all()
        return left

    def wake(self) -> None:
        """Whoever waits in `take` looks whether there is something else to do."""
        with self._changed:
            self._changed.notify_all()

    def _wait(
        self, find: Callable[[], Ticket | None], until: Callable[[], bool] = lambda: False
    ) -> Ticket | None:
        with self._changed:
            while not self._shut:
                ticket = find()
                if ticket is not None or until():
                    return ticket
                self._changed.wait()
        return None

    def _unprepared(self) -> Ticket | None:
        for ticket in self._in_order():
            if ticket.place is Place.ASKED:
                ticket.place = Place.PREPARING
                return ticket
        return None

    def _next(self, judge: Callable[[Ticket], Manner]) -> Ticket | None:
        if len(self._served) >= self._at_once:
            return None
        for tickets in self._sessions.values():
            if tickets[0].place is Place.PREPARED:
                manner = judge(tickets[0])
                if manner is Manner.LATER:
                    return None
                if manner is Manner.TOGETHER or not self.serves_alone:
                    return self._serve(tickets.popleft(), manner)
        return None

    def _serve(self, ticket: Ticket, manner: Manner) -> Ticket:
        ticket.alone = manner is Manner.ALONE
        self._served.append(ticket)
        self._sessions.move_to_end(ticket.session)
        self._drop_if_empty(ticket.session)
        self._tell()
        return ticket

    def _require_room(self, session: str) -> None:
        waiting, own = self._count(), len(self._sessions.get(session, ()))
        places = self._most + self._at_once - len(self._served)
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
        """So many must have ended before it is somebody's turn."""
        alone = sum(served.alone for served in self._served)
        for number, ticket in enumerate(self._in_order(), len(self._served) - self._at_once + 1):
            ahead = max(0, number, alone if ticket.alone else 0)
            alone += ticket.alone
            ready = ticket.place is Place.PREPARED
            stage = Stage.WAITING if ready else Stage.PREPARING
            ticket.stream.advance(Progress(stage, ahead))
        self._changed.notify_all()

    def _count(self) -> int:
        return sum(map(len, self._sessions.values()))

    def _drop_if_empty(self, session: str) -> None:
        if not self._sessions[session]:
            del self._sessions[session]
