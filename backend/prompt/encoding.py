"""Texts to ids, each stretch of a long one once: a question is weighed anew at every pause.

A long text is cut where no token can reach across, so that typing on at its end encodes only the
end. Such places, for Qwen2's pattern of words (`backend.checkpoint.tokenizer.WORDS`): between a
line break and a letter or digit, for what holds a line break ends with it; and before a space
between two ASCII letters, for a run of letters begins with that space. Composing Unicode (NFC)
joins nothing across either. A tokenizer that cuts no words has no such places.
"""

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from backend.checkpoint.tokens import Tokens
from backend.media.shelf import Shelf

STRETCH = 4096  # characters at least, so that there are few
SHORT = 512  # characters that are encoded sooner than found
KEPT_BYTES = 16 << 20
PLACE = re.compile(r"(?<=\n)(?=[^\W_])|(?<=[A-Za-z])(?= [A-Za-z])")


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The ids of a stretch, and what it takes to keep them with it."""

    ids: "array[int]"
    text_bytes: int

    @property
    def size(self) -> int:
        return self.text_bytes + self.ids.itemsize * len(self.ids)


class Encoder:
    """Encodes as `Tokens.encode_plain`, keeping what was long while there is room. Thread-safe."""

    def __init__(self, tokens: Tokens, kept_bytes: int = KEPT_BYTES) -> None:
        self._tokens = tokens
        self._kept: Shelf[_Encoded] = Shelf(kept_bytes, lambda encoded: encoded.size)

    def encode(self, text: str) -> list[int]:
        """Ids of `text` read as nothing but text."""
        if len(text) < SHORT:
            return self._tokens.encode_plain(text)
        ids: list[int] = []
        for stretch in stretches(text) if self._tokens.cuts_words else (text,):
            ids += self._kept.get(stretch, partial(self._encode, stretch)).ids
        return ids

    def _encode(self, stretch: str) -> _Encoded:
        return _Encoded(array("q", self._tokens.encode_plain(stretch)), 4 * len(stretch))


def stretches(text: str) -> Iterator[str]:
    """`text` cut where tokens end whatever stands around."""
    start = 0
    while place := PLACE.search(text, start + STRETCH):
        yield text[start : place.start()]
        start = place.start()
    yield text[start:]
