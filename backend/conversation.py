"""The nouns everybody shares: attachment, turn, conversation, sampling, request, answer.

All are frozen and hold paths, not pixels, so they are hashable, cheap to copy and safe to hand
from thread to thread. Editing a conversation means making another one. This file knows nothing
of models, prompts, files on disk or pages.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from backend.errors import BadSetting

MAX_NEW_TOKENS = 1024  # the model card's generation_config
MOST_NEW_TOKENS = 32_768  # the longest context of the InternVL3 family
MOST_TILES = 40  # of one picture; the family is trained on at most 12
MOST_FRAMES = 512
MOST_STOPS = 16


class Kind(StrEnum):
    """What an attachment is, found out from its content."""

    IMAGE = "image"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a question and the choices made for it; `None` leaves the choice to the checkpoint.

    `name` is what the person calls the file. `max_tiles` concerns an image; `frames` and the
    range `start_s`–`end_s` (seconds) concern a video.
    """

    path: str
    kind: Kind
    name: str
    max_tiles: int | None = None
    frames: int | None = None
    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        check_range(f"number of tiles of {self.name}", self.max_tiles, 1, MOST_TILES)
        check_range(f"number of frames of {self.name}", self.frames, 1, MOST_FRAMES)
        for name, seconds in (("start", self.start_s), ("end", self.end_s)):
            check_range(f"{name} of {self.name} in seconds", seconds, 0, 1_000_000)
        if self.start_s is not None and self.end_s is not None and self.start_s >= self.end_s:
            raise BadSetting(
                f"{self.name}: the range {self.start_s:g}–{self.end_s:g} s is empty.",
                "Let it end after it starts.",
            )


class End(StrEnum):
    """Why an answer ended: the model was done, the allowance was used up, a person stopped it, or
    something else ended it, which is told as an error."""

    EOS = "eos"
    LENGTH = "length"
    STOPPED = "stopped"
    BROKEN_OFF = "broken off"


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one answer cost. Times are in seconds from the moment the request was made."""

    prompt_tokens: int  # all tokens the model read, visual ones included
    visual_tokens: int
    new_tokens: int
    ttft_s: float  # to the first token
    tokens_per_s: float  # after the first token
    end: End
    cached_tokens: int = 0  # of the prompt, read for an earlier request and kept

    @property
    def text_tokens(self) -> int:
        """What is not visual of what the model read."""
        return self.prompt_tokens - self.visual_tokens


@dataclass(frozen=True, slots=True)
class Answer:
    """Text as the model wrote it, byte for byte; `token_ids` where the engine knows them."""

    text: str
    token_ids: tuple[int, ...] = ()
    statistics: Statistics | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One question with its files, and its answer once there is one.

    `combined` puts all images of the turn behind one `<image>` (the card's combined form)
    instead of numbering them `Image-1`, `Image-2`.
    """

    question: str
    attachments: tuple[Attachment, ...] = ()
    combined: bool = False
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat: turns in order, of which only the last may wait for its answer.

    `system` is the person's own system prompt; `None` means the checkpoint's.
    """

    turns: tuple[Turn, ...] = ()
    system: str | None = None

    @property
    def waits(self) -> bool:
        """Whether the last turn has no answer yet."""
        return bool(self.turns) and self.turns[-1].answer is None

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """Every file of every turn, in the order in which the model sees them."""
        return tuple(file for turn in self.turns for file in turn.attachments)

    def asked(self, turn: Turn) -> "Conversation":
        """With one more turn."""
        return replace(self, turns=(*self.turns, turn))

    def answered(self, answer: Answer) -> "Conversation":
        """With the answer of the last turn, in place of an earlier one if there was any."""
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], answer=answer)))

    def unanswered(self) -> "Conversation":
        """With the last question open again, to be answered anew."""
        return replace(self, turns=(*self.turns[:-1], replace(self.turns[-1], answer=None)))

    def without_last(self) -> "Conversation":
        """Without the last turn; an empty conversation stays empty."""
        return replace(self, turns=self.turns[:-1])

    def instructed(self, system: str | None) -> "Conversation":
        """With another system prompt."""
        return replace(self, system=system)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. The default is greedy; `seed=None` leaves sampling to chance."""

    temperature: float = 0.0  # 0 always takes the likeliest token
    top_p: float = 1.0  # 1 considers all tokens
    top_k: int = 0  # 0 considers all tokens
    repetition_penalty: float = 1.0  # 1 does not penalise
    max_new_tokens: int = MAX_NEW_TOKENS
    seed: int | None = None
    stop: tuple[str, ...] = ()  # the answer ends before the first of these texts

    def __post_init__(self) -> None:
        check_range("temperature", self.temperature, 0, 2)
        check_range("top-p", self.top_p, 0.01, 1)
        check_range("top-k", self.top_k, 0, 1000)
        check_range("repetition penalty", self.repetition_penalty, 0.5, 2)
        check_range("max new tokens", self.max_new_tokens, 1, MOST_NEW_TOKENS)
        check_range("seed", self.seed, 0, 2**32 - 1)
        if len(self.stop) > MOST_STOPS or not all(self.stop):
            raise BadSetting(
                f"There are {len(self.stop)} stop texts.",
                f"Give at most {MOST_STOPS}, none of them empty.",
            )


@dataclass(frozen=True, slots=True)
class Request:
    """What an engine is asked: a conversation whose last turn waits, and how to sample.

    `session` names who asks, so that the waiting are served in fair turns.
    """

    conversation: Conversation
    sampling: Sampling = field(default_factory=Sampling)
    session: str = ""


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raise `BadSetting` unless `value` is a number in [low, high]; `None` passes."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise BadSetting(f"The {name} must be a number, not {value!r}.", "Correct it.")
    if not low <= value <= high:
        raise BadSetting(
            f"The {name} is {_spell(value)}.",
            f"Choose a value from {_spell(low)} to {_spell(high)}.",
        )


def _spell(value: float) -> str:
    """A number as a person writes it, as 1,000,000,000; a very long one is cut."""
    written = f"{value:,}" if isinstance(value, int) else f"{value:g}"
    return written if len(written) <= 24 else f"{written[:23]}…"
