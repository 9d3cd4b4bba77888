"""Token ids to text, in constant time per token, as soon as a character is complete.

A byte-level vocabulary spells every byte by a printable character (GPT-2's table, as Qwen2 uses
it). Tokens become bytes through that table and bytes become text through an incremental UTF-8
decoder, so that no text is decoded twice and none is held back but an unfinished character.
The stock `TextIteratorStreamer` decodes the whole line anew for each token and waits for spaces.
"""

import codecs
from collections.abc import Mapping

from tokenizers import Tokenizer

from backend.checkpoint.tokenizer import Tokens

MARKS = frozenset({"<ref>", "</ref>", "<box>", "</box>"})  # of grounding; they stay in the text


class ByteTable:
    """Bytes of each token of one checkpoint, looked up once. Used by the worker alone."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokenizer: Tokenizer = tokens.tokenizer
        self._spelt = spell_bytes()
        added = tokens.tokenizer.get_added_tokens_decoder().items()
        self._bytes = {
            number: b"" for number, token in added if token.special and token.content not in MARKS
        }

    def bytes_of(self, token_id: int) -> bytes:
        """Bytes that a token adds to the text; none for special tokens and unknown ids."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._read(token_id)
        return known

    def _read(self, token_id: int) -> bytes:
        piece = self._tokenizer.id_to_token(token_id) or ""
        try:
            return bytes(self._spelt[character] for character in piece)
        except KeyError:  # an added token is written as it is
            return piece.encode()


class TextDecoder:
    """Decodes one answer."""

    def __init__(self, table: ByteTable) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """Text that is complete with this token; often "" in the middle of a character."""
        return self._decoder.decode(self._table.bytes_of(token_id))

    def end(self) -> str:
        """What is left of an unfinished character: U+FFFD or nothing."""
        return self._decoder.decode(b"", final=True)


def spell_bytes() -> Mapping[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    spelt = {chr(byte): byte for byte in printable}
    return spelt | {chr(0x100 + number): byte for number, byte in enumerate(others)}
