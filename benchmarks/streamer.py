"""The streamer: what it costs to turn token ids into text, against transformers' stock one.

Both are driven as `generate()` drives them, with a text of words without a line break, which the
stock streamer decodes anew from its start for every token. CPU time of this process, so that
neighbours on the machine hardly count.
"""

import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TextIteratorStreamer
from transformers.generation.streamers import BaseStreamer

from backend.checkpoint.find import find_checkpoint
from backend.checkpoint.tokenizer import read_tokens
from backend.conversation import Conversation, Request
from backend.local.decoding import ByteTable
from backend.local.streamer import AnswerStreamer
from backend.settings import BUNDLED
from backend.stream import AnswerStream
from benchmarks.measurement import (
    Measurement,
    alternate,
    at_least,
    ours_of,
    rival_of,
    times_better,
)

LENGTHS = (256, 1024, 4096)  # tokens
LONGEST_GOAL = 100  # times less for the longest
WORDS = "the red circle is left of the blue square, and both lie above a green triangle; "


def measure(quick: bool) -> Iterator[Measurement]:
    """CPU time per token at each length."""
    work = Work()
    for length in LENGTHS:
        ids = work.ids(length)
        work.require_equal(ids)
        rounds = 3 if quick else 7
        pairs = alternate(
            partial(work.ours, ids), partial(work.stock, ids), rounds, time.process_time
        )
        ratio = times_better(pairs)
        yield Measurement(
            f"streamer: {length} tokens without a line break, against the stock streamer",
            "µs of CPU per token",
            ours_of(pairs, 1e6 / length),
            rival_of(pairs, 1e6 / length),
            ratio,
            at_least(ratio.median, LONGEST_GOAL) if length == LENGTHS[-1] else None,
        )


class Work:
    """The bundled checkpoint's tokenizer, ours and transformers', and a text for both."""

    def __init__(self) -> None:
        folder = find_checkpoint(BUNDLED)
        self._tokens = read_tokens(folder)
        self._table = ByteTable(self._tokens)
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)

    def ids(self, length: int) -> list[torch.Tensor]:
        """Tokens as `generate()` gives them, one after another."""
        once = self._tokens.encode_plain(WORDS)
        return [torch.tensor([number]) for number in islice(cycle(once), length)]

    def ours(self, ids: list[torch.Tensor]) -> str:
        """The text through our streamer."""
        stream = AnswerStream(Request(Conversation()))
        drive(AnswerStreamer(stream, self._table, ()), ids)
        stream.finish()
        return "".join(stream)

    def stock(self, ids: list[torch.Tensor]) -> str:
        """The text through `TextIteratorStreamer`."""
        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True)
        drive(streamer, ids)
        return "".join(streamer)

    def require_equal(self, ids: list[torch.Tensor]) -> None:
        """Raise unless both give the same text: figures of unlike work would say nothing."""
        if self.ours(ids) != self.stock(ids):
            raise AssertionError("the two streamers give different texts")


def drive(streamer: BaseStreamer, ids: list[torch.Tensor]) -> None:
    """What `generate()` does with a streamer: the prompt, each token, the end."""
    streamer.put(torch.zeros((1, 8), dtype=torch.long))
    for token in ids:
        streamer.put(token)
    streamer.end()
