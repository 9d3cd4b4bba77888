"""Attention of a step: every request reads its own pages of keys and values, and no others'.

transformers' way without flash attention is one dense mask over all requests together, whose
cost grows with the product of their lengths (2 cores, 8 requests of 1,500 tokens: a quarter of
the tokens/s of one after another). Here the function that the network was loaded with is called
for requests side by side, each with its own pages, where they have one token each and are about
as long; a request that reads several tokens is alone. It knows no requests, only their places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.generation.continuous_batching import PagedAttentionCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from backend.local.together import folded
from backend.local.together.places import FULL, Group

NAME = "each_request_its_pages"  # how transformers' table of attentions calls the function below
MIXING = "sdpa"  # the attention whose mask can tell several requests how far each may look


class Scratch:
    """Room to lay pages side by side; kept, since new memory costs page faults."""

    def __init__(self) -> None:
        self._room: dict[str, torch.Tensor] = {}

    def gather(self, name: str, pages: torch.Tensor, group: Group) -> torch.Tensor:
        """The tokens of a group, [requests, heads, length, width], good until the next call."""
        count = len(group.pages)
        room = self._room.get(name)
        if room is None or len(room) < count:
            room = self._room[name] = pages.new_empty((2 * count, *pages.shape[1:]))
        torch.index_select(pages, 0, group.pages, out=room[:count])
        tokens = room[:count].view(group.requests, -1, *pages.shape[2:])
        return tokens[:, : group.length].transpose(1, 2)


class PageReader:
    """What the decoder layers take for their cache during one step."""

    def __init__(
        self,
        cache: PagedAttentionCache,
        write: torch.Tensor,
        groups: Sequence[Group],
        scratch: Scratch,
        attention: str,
    ) -> None:
        """`write` tells for each token of the step where on the pages it goes.

        `attention` is the function to compute with, as transformers names it.
        """
        self.groups = groups
        self.scratch = scratch
        self.attention = attention
        self._allocator: Any = cache.cache_allocators[FULL]
        self._write = write

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple["LayerPages", "LayerPages"]:
        """Write the step's keys and values [1, heads, tokens, width]; say where to read."""
        views = self._allocator._kv_token_views[layer]
        for view, new in zip(views, (keys, values), strict=True):
            view.index_copy_(0, self._write, new[0].transpose(0, 1))
        of_keys, of_values = self._allocator._kv_page_views[layer]
        return LayerPages(of_keys, "keys", self), LayerPages(of_values, "values", self)


@dataclass(frozen=True, slots=True)
class LayerPages:
    """What attention gets as "keys" and "values" of one layer."""

    pages: torch.Tensor  # [pages, tokens per page, heads, width]
    name: str
    reader: PageReader

    def of(self, group: Group) -> torch.Tensor:
        """Of some requests, [requests, heads, length, width]."""
        return self.reader.scratch.gather(self.name, self.pages, group)


def attend_by_pages(
    module: Any,
    query: torch.Tensor,
    keys: LayerPages,
    values: LayerPages,
    attention_mask: torch.Tensor | None,
    **choices: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of the tokens [1, heads, tokens, width], each request's over its own pages."""
    reader = keys.reader
    attend = ALL_ATTENTION_FUNCTIONS[reader.attention]
    _, heads, tokens, width = query.shape
    outputs = query.new_empty((1, tokens, heads, width))
    for group in reader.groups:
        asked = query[0].index_select(1, group.tokens).view(heads, group.requests, -1, width)
        output, _ = attend(
            module, asked.transpose(0, 1), keys.of(group), values.of(group), group.mask, **choices
        )
        outputs[0].index_copy_(0, group.tokens, output.flatten(0, 1))
    return outputs, None


def offer_attention() -> None:
    """Put the attentions of a step into transformers' table, which has them by name."""
    AttentionInterface.register(NAME, attend_by_pages)
    AttentionInterface.register(folded.NAME, folded.attend_folded)


def clear_pages(cache: PagedAttentionCache, pages: torch.Tensor) -> None:
    """Forget on some pages what requests of earlier left there.

    Tokens that nobody may look at are multiplied by zero, and a number that is none stays none.
    """
    allocator: Any = cache.cache_allocators[FULL]
    stride = allocator.block_physical_stride // allocator.tokens_per_page
    allocator._copy_view.index_fill_(0, pages // stride, 0)
