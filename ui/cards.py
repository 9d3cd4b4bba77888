"""How files look on the page: cards of accepted files, drafts of unsent ones, boxes of answers."""

from dataclasses import dataclass

from backend.conversation import Attachment


@dataclass(frozen=True, slots=True)
class Card:
    """How a file is shown: its preview pictures (paths of small JPEGs) and what is said of them.

    An image has one preview and a grid (columns, rows) of tiles; a video has a preview for each
    frame that is sent, and its `times` in seconds. `tiles` counts what the model reads, an
    image's thumbnail included.
    """

    previews: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    tiles: int = 0
    size: tuple[int, int] = (0, 0)
    grid: tuple[int, int] = (0, 0)
    duration_s: float = 0.0
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A dropped file that waits for its question; a refused one has no attachment but a problem."""

    key: int
    name: str
    attachment: Attachment | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The boxes of an answer on their picture: a JPEG (path) with numbers, and what each names."""

    path: str
    picture: str  # the file's name
    legend: tuple[str, ...]  # one line for each number, from 1
