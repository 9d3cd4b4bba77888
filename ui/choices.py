"""The settings panel's values, checked: what a browser sends is only believed after that."""

from dataclasses import dataclass, replace

from backend.conversation import MOST_TILES, Attachment, Kind, Sampling, Turn, check_range
from backend.errors import BadSetting


@dataclass(frozen=True, slots=True)
class Choices:
    """What the panel says; `system=None` and `max_tiles=None` leave it to the checkpoint."""

    sampling: Sampling = Sampling()
    system: str | None = None
    max_tiles: int | None = None
    combined: bool = False

    def turn(self, question: str, files: tuple[Attachment, ...]) -> Turn:
        """A question as it is sent; a picture's own number of tiles wins over the panel's."""
        tiled = (
            replace(file, max_tiles=self.max_tiles)
            if file.kind is Kind.IMAGE and file.max_tiles is None
            else file
            for file in files
        )
        return Turn(question, tuple(tiled), self.combined)


def read_choices(
    system: object,
    temperature: object,
    top_p: object,
    top_k: object,
    repetition_penalty: object,
    max_new_tokens: object,
    seed: object,
    max_tiles: object,
    layout: object,
) -> Choices:
    """The panel's values in its order. Raises `BadSetting` naming the first that is wrong."""
    tiles = whole("max tiles", max_tiles)
    check_range("max tiles", tiles, 0, MOST_TILES)
    return Choices(
        Sampling(
            temperature=number("temperature", temperature),
            top_p=number("top-p", top_p),
            top_k=whole("top-k", top_k),
            repetition_penalty=number("repetition penalty", repetition_penalty),
            max_new_tokens=whole("max new tokens", max_new_tokens),
            seed=read_seed(seed),
        ),
        system=str(system) if system and str(system).strip() else None,
        max_tiles=tiles or None,
        combined=layout == "combined",
    )


def read_seed(value: object) -> int | None:
    """The seed as typed; nothing typed leaves sampling to chance. Raises `BadSetting`."""
    typed = str(value if value is not None else "").strip()
    if not typed:
        return None
    if not (typed.isascii() and typed.isdigit()):
        raise BadSetting(f"The seed must be a whole number, not {typed!r:.40}.", "Correct it.")
    return int(typed)


def number(name: str, value: object) -> float:
    """`value` as a number. Raises `BadSetting`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadSetting(f"The {name} must be a number, not {value!r:.40}.", "Correct it.")
    return value


def whole(name: str, value: object) -> int:
    """`value` as a whole number; 12.0 counts. Raises `BadSetting`."""
    found = number(name, value)
    if found != found or found in (float("inf"), float("-inf")) or found != int(found):
        raise BadSetting(f"The {name} must be a whole number, not {found:g}.", "Correct it.")
    return int(found)
