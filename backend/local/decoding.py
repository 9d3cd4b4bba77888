"""Token ids to text, in constant time per token, as soon as a character is complete.

Each token's bytes are looked up once, and bytes become text through an incremental UTF-8 decoder,
so that no text is decoded twice and none is held back but an unfinished character. The stock
`TextIteratorStreamer` decodes the whole line anew for each token and waits for spaces.
"""

from backend.checkpoint.tokens import ByteReader, Tokens

MARKS = frozenset({"<ref>", "</ref>", "<box>", "</box>"})  # of grounding; they stay in the text


class ByteTable:
    """Bytes of each token of one checkpoint, looked up once. Used by the worker alone."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self._bytes = {tokens.added[sign]: b"" for sign in tokens.signs if sign not in MARKS}

    def bytes_of(self, token_id: int) -> bytes:
        """Bytes that a token adds to the text; none for special tokens and unknown ids."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self.tokens.spell(token_id)
        return known


class TextDecoder:
    """Decodes one answer."""

    def __init__(self, table: ByteTable) -> None:
        self._table = table
        self._reader = ByteReader(table.tokens)

    def feed(self, token_id: int) -> str:
        """Text that is complete with this token; often "" in the middle of a character."""
        return self._reader.feed(self._table.bytes_of(token_id))

    def end(self) -> str:
        """What is left of an unfinished character: U+FFFD or nothing."""
        return self._reader.end()
