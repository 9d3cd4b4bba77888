"""The streamer that `generate()` drives: writes text and ids into an answer's stream.

It is a `TextIteratorStreamer`, but its text goes to the stream instead of a queue, so that errors
and the end travel the same way. It also is where a closed stream ends the generation: raising in
`put` costs no further step. Stop texts are looked for here too, since here tokens become text.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import TextIteratorStreamer

from backend.conversation import End, Request
from backend.local.decoding import ByteTable, TextDecoder
from backend.local.stopping import Stopped
from backend.sieve import Sieve
from backend.stream import AnswerStream


class StopFound(Exception):
    """The answer came to a stop text: it is complete."""


class AnswerStreamer(TextIteratorStreamer):
    """Hands one answer to its reader, token by token; `end_reason` tells why it ended."""

    def __init__(
        self,
        stream: AnswerStream,
        table: ByteTable,
        eos: tuple[int, ...],
        between: Callable[[], None] = lambda: None,
    ) -> None:
        """`between` is called after each token, for what else the model has to do."""
        unused: Any = None  # the stock streamer's tokenizer
        super().__init__(unused, skip_prompt=True)
        self._stream = stream
        self._decoder = TextDecoder(table)
        self._sieve = Sieve(stream.request.sampling.stop)
        self._eos = frozenset(eos)
        self._between = between
        self.end_reason = End.LENGTH
        self.taken: list[int] = []  # every token, those that end the answer included

    @property
    def request(self) -> Request:
        """What is being answered."""
        return self._stream.request

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, [1, length], or the next token, [1].

        Raises `Stopped` when the stream is closed and `StopFound` at a stop text.
        """
        if self.next_tokens_are_prompt:
            self.next_tokens_are_prompt = False
            if self._stream.closed:
                raise Stopped
            return
        (token,) = value.tolist()
        self.take(token)

    def take(self, token: int) -> None:
        """Take the next token. Raises as `put` does."""
        if self._stream.closed:
            raise Stopped
        self.taken.append(token)
        if token in self._eos:
            self.end_reason = End.EOS
        else:
            self._write(self._decoder.feed(token), [token])
        self._between()

    def end(self) -> None:
        """Release what is left of an unfinished character, and what is no stop text after all."""
        self._write(self._decoder.end(), [])
        self._stream.write(self._sieve.rest())

    def _write(self, text: str, ids: list[int]) -> None:
        self._stream.write(self._sieve.sift(text), ids)
        if self._sieve.ended:
            self.end_reason = End.EOS
            raise StopFound
