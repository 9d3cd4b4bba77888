"""The budget: how many tokens a conversation takes of the context, and what that leaves.

Pure arithmetic over counts that others make. Visual tokens are tiles times tokens per tile;
`<img>` and `</img>` count as text, as do roles and labels.
"""

from dataclasses import dataclass

from backend.errors import TooLong

LEAST_ANSWER = 16  # tokens; a context that leaves fewer is full


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens of a conversation against the context length; `remedy` is set when it does not fit."""

    text: int
    visual: int
    limit: int  # tokens, prompt and answer together
    images: int
    videos: int
    tiles: int  # of all images and frames, thumbnails counted
    remedy: str = ""  # a sentence, as "Use 24 frames or 6 tiles."
    estimated: bool = False  # whether the text was counted without the checkpoint's tokenizer

    @property
    def total(self) -> int:
        """Tokens that the model reads."""
        return self.text + self.visual

    @property
    def fits(self) -> bool:
        """Whether the model can read it all and has room for a short answer."""
        return self.total + LEAST_ANSWER <= self.limit


def room_for_answer(budget: Budget, max_new_tokens: int) -> int:
    """How many tokens an answer may have: at most `max_new_tokens`, and what the context leaves.

    Raises `TooLong` with the numbers and the remedy when not even a short answer has room.
    """
    if not budget.fits:
        raise TooLong(_describe(budget), budget.remedy)
    return min(budget.limit - budget.total, max_new_tokens)


def _describe(budget: Budget) -> str:
    short = "it does not fit" if budget.total > budget.limit else "no room is left for an answer"
    return (
        f"{budget.total:,} of {budget.limit:,} tokens "
        f"({budget.visual:,} visual, {budget.text:,} text): {short}."
    )
