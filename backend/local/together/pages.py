"""Attention of a step: every request reads its own pages of keys and values, and no others'.

transformers' way without flash attention is one dense mask over all requests together, whose
cost grows with the product of their lengths (2 cores, 8 requests of 1,500 tokens: a quarter of
the tokens/s of one after another). Here the function that the network was loaded with is called
for one request at a time, so that it computes what it computes for a request that is alone.
It knows no requests: only where in the step each one's tokens are, and on which pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.generation.continuous_batching import PagedAttentionCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "each_request_alone"  # how transformers' table of attentions calls the function below
FULL = "full_attention"


@dataclass(frozen=True, slots=True)
class Place:
    """One request in a step: its tokens are `begin`…`end` of all, its keys fill `pages`."""

    begin: int
    end: int
    pages: torch.Tensor  # rows of the page views, int64
    length: int  # tokens on those pages, the step's own included


class Scratch:
    """Room to lay one request's pages side by side; kept, since new memory costs page faults."""

    def __init__(self) -> None:
        self._room: dict[str, torch.Tensor] = {}

    def gather(self, name: str, pages: torch.Tensor, place: Place) -> torch.Tensor:
        """The tokens of a place, [1, heads, length, width], good until the next call."""
        count = len(place.pages)
        room = self._room.get(name)
        if room is None or len(room) < count:
            room = self._room[name] = pages.new_empty((2 * count, *pages.shape[1:]))
        torch.index_select(pages, 0, place.pages, out=room[:count])
        return room[:count].flatten(0, 1)[: place.length].transpose(0, 1)[None]


class PageReader:
    """What the decoder layers take for their cache during one step."""

    def __init__(
        self,
        cache: PagedAttentionCache,
        write: torch.Tensor,
        places: Sequence[Place],
        scratch: Scratch,
        attention: str,
    ) -> None:
        """`write` tells for each token of the step where on the pages it goes.

        `attention` is the function to compute with, as transformers names it.
        """
        self.places = places
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

    def of(self, place: Place) -> torch.Tensor:
        """Of one request, [1, heads, length, width]."""
        return self.reader.scratch.gather(self.name, self.pages, place)


def attend_alone(
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
    outputs = []
    for place in reader.places:
        mask = causal_mask(place, query.device) if reader.attention == "sdpa" else None
        one = query[:, :, place.begin : place.end]
        output, _ = attend(module, one, keys.of(place), values.of(place), mask, **choices)
        outputs.append(output)
    return torch.cat(outputs, dim=1), None


def causal_mask(place: Place, device: torch.device) -> torch.Tensor | None:
    """True where a token may look, [1, 1, tokens, length]: up to itself.

    `None` where `sdpa` knows without: for one token, and when nothing was read before. Flash
    attention aligns its causal mask at the last token and never needs one.
    """
    tokens = place.end - place.begin
    if tokens in (1, place.length):
        return None
    allowed = torch.ones(tokens, place.length, dtype=torch.bool, device=device)
    return allowed.tril_(place.length - tokens)[None, None]


def offer_attention() -> None:
    """Put `attend_alone` into transformers' table, from which layers take it by name."""
    AttentionInterface.register(NAME, attend_alone)
