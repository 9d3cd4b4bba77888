"""Stop texts: an answer ends before the first of them, wherever tokens happen to break it.

What may be the beginning of one is held back until it is known, and nothing else is. Pure: it
takes text and gives text.
"""

from collections.abc import Sequence


class StopTexts:
    """Watches one answer for `texts`; `found` tells that one came, and no more text will."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """What can be said now that `text` has come."""
        if self.found:
            return ""
        self._held += text
        places = [place for stop in self._texts if (place := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            said, self._held = self._held[: min(places)], ""
            return said
        keep = max((_beginning(self._held, stop) for stop in self._texts), default=0)
        cut = len(self._held) - keep
        said, self._held = self._held[:cut], self._held[cut:]
        return said

    def end(self) -> str:
        """What was held back and is no stop text after all."""
        said, self._held = self._held, ""
        return said


def _beginning(text: str, stop: str) -> int:
    """The length of the longest end of `text` with which `stop` begins, all of it excepted."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
