"""Settings of a run: made once from the command line, checked, frozen, handed down.

Knows no parser and no environment: `terminal.arguments` fills it in.
"""

from dataclasses import dataclass

from backend.conversation import check_range
from backend.errors import BadSetting

BUNDLED = "bundled"
FRAMES = 8  # of a video unless chosen otherwise: the model card's example
DECODERS = ("av", "decord")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the person who starts the app decided."""

    model: str = BUNDLED  # a size as "2B", a hub id, a folder, or the checkpoint in assets/
    host: str = "127.0.0.1"
    port: int = 7860
    max_queue: int = 16  # requests waiting at most, the running one not counted
    decoder: str = "av"
    frames: int = FRAMES

    def __post_init__(self) -> None:
        check_range("port", self.port, 0, 65_535)
        check_range("queue length", self.max_queue, 1, 10_000)
        check_range("frames", self.frames, 1, 512)
        if self.decoder not in DECODERS:
            raise BadSetting(
                f"There is no decoder {self.decoder!r}.", f"Choose from {', '.join(DECODERS)}."
            )
