"""How the door is hung: from an engine and the settings to what goes around the page."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.middleware import Middleware

from backend.engine import Engine
from backend.prompt.compose import Composer
from backend.settings import Settings
from door.counted import CountedEngine
from door.counts import Counts
from door.doorway import Doorway
from door.fetching import Fetcher
from door.keys import Keys
from door.routes import Desk, make_routes


@dataclass(frozen=True, slots=True)
class Door:
    """The door of one server. `around` goes around the page, which asks `engine`."""

    around: Middleware
    engine: Engine
    desk: Desk

    def close(self) -> None:
        """Remove the files that came with requests."""
        self.desk.close()


def open_door(engine: Engine, composer: Callable[[], Composer | None], settings: Settings) -> Door:
    """The door to `engine`. What the page asks is counted too if it asks the door's `engine`."""
    counts = Counts()
    desk = Desk(
        engine=CountedEngine(engine, counts, "door"),
        composer=composer,
        keys=Keys(settings.door_keys),
        counts=counts,
        fetcher=Fetcher() if settings.allow_picture_urls else None,
        elsewhere=settings.remote,
    )
    around = Middleware(Doorway, door=make_routes(desk), counts=counts)
    return Door(around, CountedEngine(engine, counts, "page"), desk)
