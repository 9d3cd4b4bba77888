"""The network as a step calls it: tokens of several requests in one row, logits of some out.

Embeds words by the network's own table and pictures by their rows, lets the decoder layers read
and write pages, and computes logits only where a token is to be chosen. The network itself is
not changed: only while a step runs do its layers use the attention of `pages.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import InternVLForConditionalGeneration
from transformers.generation.continuous_batching import PagedAttentionCache

from backend.local.together.pages import (
    FULL,
    NAME,
    PageReader,
    Place,
    Scratch,
    offer_attention,
)

LookUp = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # ids, words → embeddings


@dataclass(frozen=True, slots=True)
class Scores:
    """What transformers' step looks at of a network's output: [1, rows, vocabulary]."""

    logits: torch.Tensor


class PackedNetwork:
    """Stands for the network in `ContinuousBatchProcessor`."""

    def __init__(self, network: InternVLForConditionalGeneration, look_up: LookUp) -> None:
        self._network = network
        self._look_up = look_up
        self._config: Any = network.config.get_text_config(decoder=True)
        self._attention = str(self._config._attn_implementation)
        self._scratch = Scratch()
        offer_attention()

    def _supports_logits_to_keep(self) -> bool:
        """Asked by transformers, which then says for which tokens it wants logits."""
        return True

    def __call__(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        cache: PagedAttentionCache,
        logits_to_keep: torch.Tensor,
        **given: Any,
    ) -> Scores:
        """Logits at `logits_to_keep` for ids [1, tokens], virtual ones among them."""
        places = find_places(cache, position_ids[0], given)
        write = find_rows(cache, position_ids[0], places)
        reader = PageReader(cache, write, places, self._scratch, self._attention)
        embeddings: Any = self._network.get_input_embeddings()
        words = embeddings(input_ids[0].clamp(max=embeddings.num_embeddings - 1))
        with self._each_alone():
            hidden = self._network.model.language_model(
                inputs_embeds=self._look_up(input_ids[0], words)[None],
                position_ids=position_ids,
                cache=reader,
                use_cache=True,
            ).last_hidden_state
        return Scores(self._network.lm_head(hidden[:, logits_to_keep]))

    @contextmanager
    def _each_alone(self) -> Iterator[None]:
        """Have the decoder layers attend request by request; the model's one thread is here."""
        self._config._attn_implementation = NAME
        try:
            yield
        finally:
            self._config._attn_implementation = self._attention


def find_places(
    cache: PagedAttentionCache, positions: torch.Tensor, given: dict[str, Any]
) -> list[Place]:
    """Where each request's tokens are in a step, and on which pages what it read is.

    transformers tells pages either in a table (when everybody reads one token) or by naming the
    place of every token; when nobody read anything before, it names only places to write.
    """
    size = page_size(cache)
    bounds = given["cu_seq_lens_q"].tolist()
    table, read, write = given["block_table"], given["read_index"][0], given["write_index"][0]
    lengths = (positions[[end - 1 for end in bounds[1:]]] + 1).tolist()
    named = read if len(read) else write
    rows = table[0] if table is not None else torch.split(named, lengths)
    return [
        Place(begin, end, _pages(row, length, size, table is not None), length)
        for begin, end, row, length in zip(bounds, bounds[1:], rows, lengths, strict=False)
    ]


def find_rows(
    cache: PagedAttentionCache, positions: torch.Tensor, places: Sequence[Place]
) -> torch.Tensor:
    """For each token of a step, where on the pages its keys and values go."""
    size = page_size(cache)
    rows = []
    for place in places:
        at = positions[place.begin : place.end].to(torch.int64)
        rows.append(place.pages[at // size] * size + at % size)
    return torch.cat(rows)


def page_size(cache: PagedAttentionCache) -> int:
    """Tokens that a page holds."""
    allocator: Any = cache.cache_allocators[FULL]
    return int(allocator.tokens_per_page)


def _pages(row: torch.Tensor, length: int, size: int, of_pages: bool) -> torch.Tensor:
    if of_pages:
        return row[: -(-length // size)].to(torch.int64)
    return row[::size] // size
