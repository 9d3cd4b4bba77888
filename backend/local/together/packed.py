"""The network as a step calls it: tokens of several requests in one row, logits of some out.

Embeds words by the network's own table and pictures by their rows, lets the decoder layers read
and write pages, and computes logits only where a token is to be chosen. The network itself is
not changed: only while a step runs do its layers use the attention of `pages.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import InternVLForConditionalGeneration
from transformers.generation.continuous_batching import PagedAttentionCache

from backend.local.together import folded
from backend.local.together.pages import (
    MIXING,
    NAME,
    PageReader,
    Scratch,
    clear_pages,
    offer_attention,
)
from backend.local.together.places import find_begun, find_layout, find_rows, group

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
        self._sharing = self._config.num_attention_heads // self._config.num_key_value_heads
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
        layout = find_layout(cache, position_ids[0], given)
        clear_pages(cache, find_begun(layout))
        write = find_rows(layout, position_ids[0])
        embeddings: Any = self._network.get_input_embeddings()
        words = embeddings(input_ids[0].clamp(max=embeddings.num_embeddings - 1))
        attention, groups = self._attention, group(layout, mixes=self._attention == MIXING)
        if attention == MIXING and words.device.type == "cpu":
            attention, groups = folded.NAME, folded.fold(groups, self._sharing, words.dtype)
        reader = PageReader(cache, write, groups, self._scratch, attention)
        with self._by_pages():
            hidden = self._network.model.language_model(
                inputs_embeds=self._look_up(input_ids[0], words)[None],
                position_ids=position_ids,
                cache=reader,
                use_cache=True,
            ).last_hidden_state
        return Scores(self._network.lm_head(hidden[:, logits_to_keep]))

    @contextmanager
    def _by_pages(self) -> Iterator[None]:
        """Have the decoder layers attend by pages; the model's one thread is here."""
        self._config._attn_implementation = NAME
        try:
            yield
        finally:
            self._config._attn_implementation = self._attention
