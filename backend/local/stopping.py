"""How a closed stream ends work on the model: a private exception, raised between layers."""

from typing import Protocol


class Closable(Protocol):
    """What work may be done for: a stream, or an interest."""

    @property
    def closed(self) -> bool:
        """Whether it is wanted no more."""
        ...


class Stopped(Exception):
    """The reader gave up. Never leaves this package."""
