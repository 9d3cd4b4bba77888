"""Chance in a batch: the rows that want it are sampled, the others keep their likeliest token.

transformers' own processors for continuous batching sort the vocabulary of every row at every
step, and leave greedy rows to chance where two tokens are equally likely. Here each row goes
through the very warpers that `generate` uses, in its order, and has its token drawn from a
generator of this batch, so that nobody's seed elsewhere is disturbed.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from transformers.generation.continuous_batching.requests import FutureRequestState

from backend.conversation import Sampling

CHOICE = "sampling"  # under which a request's state carries its choices
ALL_IDS: Any = None  # the warpers look at scores alone


class RowSampler:
    """Has the face of transformers 5.24's `ContinuousBatchingLogitsProcessorList`."""

    tensors_required = 0

    def __init__(self, device: torch.device) -> None:
        self._generator = torch.Generator(device)
        self._generator.seed()
        self._rows: list[Sampling] = []

    @property
    def do_processing(self) -> bool:
        """Whether a row of the coming step is left to chance."""
        return any(row.temperature > 0 for row in self._rows)

    def fill_defaults(self, storage: torch.Tensor) -> None:
        """Nothing: no tensor is needed."""

    def check_kwargs(self, choices: dict[str, Any]) -> None:
        """Nothing: what a request carries comes from this package."""

    def prepare_tensor_args(
        self, requests_in_batch: Sequence[FutureRequestState], arg_storage: torch.Tensor
    ) -> torch.Tensor:
        """Remember how each row of the coming step is to be chosen."""
        self._rows = [
            one.state.logit_processor_kwargs[CHOICE]
            for one in requests_in_batch
            if one.has_new_token
        ]
        return arg_storage

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary] whose likeliest token is the one that was drawn."""
        for number, row in enumerate(self._rows):
            if row.temperature > 0:
                drawn = self._draw(scores[number : number + 1], row)
                scores[number] = -torch.inf
                scores[number, drawn] = 0
        return scores

    def _draw(self, scores: torch.Tensor, row: Sampling) -> int:
        scores = TemperatureLogitsWarper(float(row.temperature))(ALL_IDS, scores)
        if row.top_k:
            scores = TopKLogitsWarper(row.top_k)(ALL_IDS, scores)
        if row.top_p < 1:
            scores = TopPLogitsWarper(float(row.top_p))(ALL_IDS, scores)
        chances = torch.softmax(scores, dim=-1)
        return int(torch.multinomial(chances, 1, generator=self._generator))
