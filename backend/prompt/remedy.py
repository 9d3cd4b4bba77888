"""Remedies: what to change in a question that does not fit the context, tried before it is said.

Knows no tokens and no files: whoever asks weighs the changed conversations.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from backend.conversation import Attachment, Conversation, Kind

START_ANEW = "Start a new chat."


@dataclass(frozen=True, slots=True)
class Remedy:
    """The search for the mildest change to the last turn. Earlier turns stay as they are.

    `fits` weighs a conversation; `most` is the largest number of tiles of an image, or of frames
    of a video, as they are chosen now.
    """

    conversation: Conversation
    fits: Callable[[Conversation], bool]
    most: Callable[[Attachment], int]

    def find(self) -> str:
        """A sentence that names a change after which the conversation fits."""
        if not self.conversation.waits:
            return START_ANEW
        if not self.fits(self._with_files(())):
            return START_ANEW if self._fits_alone() else "Shorten the text."
        return self._less_of_each() or self._fits_anew() or self._fewer_files()

    def _fits_alone(self) -> bool:
        """Whether the last question fits a new chat, its files aside."""
        last = replace(self.conversation.turns[-1], attachments=())
        return self.fits(replace(self.conversation, turns=(last,)))

    def _less_of_each(self) -> str:
        """Fewer frames or fewer tiles, or both when neither is enough."""
        frames = self._largest(Kind.VIDEO, lambda count: self._capped(frames=count))
        tiles = self._largest(Kind.IMAGE, lambda count: self._capped(tiles=count))
        options = [self._each(frames, Kind.VIDEO)] if frames else []
        options += [self._each(tiles, Kind.IMAGE)] if tiles else []
        if options:
            return f"Use {' or '.join(options)}."
        frames = self._largest(Kind.VIDEO, lambda count: self._capped(frames=count, tiles=1))
        if not frames:
            return ""
        return f"Use {self._each(frames, Kind.VIDEO)} and {self._each(1, Kind.IMAGE)}."

    def _fits_anew(self) -> str:
        """A new chat, if it would hold the last question with all its files as they are."""
        alone = replace(self.conversation, turns=self.conversation.turns[-1:])
        return START_ANEW if self.fits(alone) else ""

    def _fewer_files(self) -> str:
        files = self._capped(frames=1, tiles=1)
        count = _bisect(len(files) - 1, lambda count: self.fits(self._with_files(files[:count])))
        if count:
            return f"Use {_plural(count, 'file')} at a time, with 1 tile or frame each."
        return START_ANEW if len(self.conversation.turns) > 1 else "Ask without files."

    def _largest(self, kind: Kind, capped: Callable[[int], tuple[Attachment, ...]]) -> int:
        """The largest number below today's with which all fits; 0 if there is none."""
        today = max((self.most(file) for file in self._files if file.kind is kind), default=1)
        return _bisect(today - 1, lambda count: self.fits(self._with_files(capped(count))))

    def _capped(
        self, frames: int | None = None, tiles: int | None = None
    ) -> tuple[Attachment, ...]:
        """The files with at most so many frames per video and tiles per image."""
        return tuple(self._cap(file, frames, tiles) for file in self._files)

    def _cap(self, file: Attachment, frames: int | None, tiles: int | None) -> Attachment:
        if file.kind is Kind.VIDEO and frames is not None:
            return replace(file, frames=min(frames, self.most(file)))
        if file.kind is Kind.IMAGE and tiles is not None:
            return replace(file, max_tiles=min(tiles, self.most(file)))
        return file

    def _each(self, count: int, kind: Kind) -> str:
        """As "24 frames", or "24 frames per video" when there are several."""
        several = [file.kind for file in self._files].count(kind) > 1
        noun = "tile" if kind is Kind.IMAGE else "frame"
        return _plural(count, noun) + (f" per {kind}" if several else "")

    @property
    def _files(self) -> tuple[Attachment, ...]:
        return self.conversation.turns[-1].attachments

    def _with_files(self, files: tuple[Attachment, ...]) -> Conversation:
        turns = self.conversation.turns
        return replace(
            self.conversation, turns=(*turns[:-1], replace(turns[-1], attachments=files))
        )


def _bisect(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number in 1…most that fits, 0 if none was found; what it returns does fit."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
