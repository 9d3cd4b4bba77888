"""The tokenizer of a checkpoint as everybody else sees it, whatever kind it is.

A checkpoint's tokenizer has added tokens such as `<|im_start|>` and `<IMG_CONTEXT>`. The program
puts them in by id; text of people, files and models is read as nothing but text. Nothing here
knows which kinds there are, nor what a prompt looks like.
"""

import codecs
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from backend.errors import BadCheckpoint

LONE_BYTES = {0xDC80 + number: "\ufffd" for number in range(128)}  # by "surrogateescape"


@dataclass(frozen=True, slots=True)
class Added:
    """A token beside the vocabulary: its id, and whether decoding leaves it out as a mere sign."""

    id: int
    special: bool


class Tokens(ABC):
    """The tokenizer of one checkpoint. Immutable, and safe to use from several threads.

    `added` maps each added token to its id, and `signs` are those that decoding leaves out.
    """

    opening: tuple[str, ...] = ()  # added tokens that every prompt begins with
    cuts_words = True  # as Qwen2 does: no token reaches from one word into the next
    leading_spaces = 0  # that the tokenizer puts before a text, so that an answer begins without
    errors = "replace"  # how bytes that are no UTF-8 are decoded, as `codecs` calls it

    def __init__(self, added: Mapping[str, Added]) -> None:
        self.added = MappingProxyType({content: token.id for content, token in added.items()})
        self.signs = tuple(content for content, token in added.items() if token.special)

    @abstractmethod
    def encode_plain(self, text: str) -> list[int]:
        """Ids of `text` read as nothing but text: never the id of an added token."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without the special tokens, as `model.chat` of the card returns it."""

    @abstractmethod
    def spell(self, token_id: int) -> bytes:
        """What a token stands for in the midst of a text; nothing if there is no such id."""

    def special(self, token: str) -> int:
        """The id of an added token; raises `BadCheckpoint` when the checkpoint lacks it."""
        if token not in self.added:
            raise BadCheckpoint(
                f"The tokenizer of this checkpoint has no {token}.",
                "Give an InternVL checkpoint with all its files.",
            )
        return self.added[token]

    def without_special(self, text: str) -> str:
        """`text` with the special tokens that are written out in it left out, as decoding would."""
        for content in self.signs:
            text = text.replace(content, "")
        return text


class ByteReader:
    """Bytes of one text to characters, each as soon as it is complete."""

    def __init__(self, tokens: Tokens) -> None:
        self._spaces = tokens.leading_spaces  # that may still be taken from the beginning
        self._decoder = codecs.getincrementaldecoder("utf-8")(tokens.errors)

    def feed(self, spelt: bytes) -> str:
        """Text that is complete with these bytes; often "" in the middle of a character."""
        if self._spaces and spelt:
            spelt = self._begin(spelt)
        text = self._decoder.decode(spelt)
        return text if text.isascii() else text.translate(LONE_BYTES)

    def end(self) -> str:
        """What is left of an unfinished character: U+FFFD or nothing."""
        return self._decoder.decode(b"", final=True).translate(LONE_BYTES)

    def _begin(self, spelt: bytes) -> bytes:
        """The bytes without the spaces that belong to no text."""
        spaces = min(self._spaces, len(spelt) - len(spelt.lstrip(b" ")))
        self._spaces = self._spaces - spaces if spaces == len(spelt) else 0
        return spelt[spaces:]


def mend(text: str) -> str:
    """`text` as valid Unicode: half a surrogate pair, which no tokenizer takes, becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
