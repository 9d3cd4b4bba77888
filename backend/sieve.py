"""A sieve for an answer's text: cuts it before a stop text and leaves signs out. Pure.

Whoever makes the text, here or elsewhere: it knows no engine. Text that may be the beginning of
either is held back until it is known, and nothing else is.
"""

from collections.abc import Iterable


class Sieve:
    """Text goes through piece by piece; once `ended`, a stop text has come and no more passes."""

    def __init__(self, stops: Iterable[str] = (), signs: Iterable[str] = ()) -> None:
        self._stops = tuple(stops)
        self._marks = (*self._stops, *signs)
        self._longest = max(map(len, self._marks), default=1)
        self._held = ""
        self.ended = False

    def sift(self, text: str) -> str:
        """What can be shown by now."""
        if not self._marks:  # the same sooner, for each token of the usual answer
            return text
        self._held += text
        passed = ""
        while not self.ended and (found := self._find()):
            at, mark = found
            passed += self._held[:at]
            self._held = self._held[at + len(mark) :]
            self.ended = mark in self._stops
        if self.ended:
            self._held = ""
            return passed
        keep = self._beginning()
        cut = len(self._held) - keep
        passed, self._held = passed + self._held[:cut], self._held[cut:]
        return passed

    def rest(self) -> str:
        """What was held back, now that nothing more comes."""
        left, self._held = self._held, ""
        return left

    def _find(self) -> tuple[int, str] | None:
        """The first stop text or sign, and where it begins."""
        found = [(at, mark) for mark in self._marks if (at := self._held.find(mark)) >= 0]
        return min(found, key=lambda one: one[0], default=None)

    def _beginning(self) -> int:
        """The length of the longest end of the text that a stop text or a sign begins with."""
        for length in range(min(len(self._held), self._longest - 1), 0, -1):
            end = self._held[-length:]
            if any(mark.startswith(end) for mark in self._marks):
                return length
        return 0
