"""Rows: requests that wait together are read in one left-padded pass and answered side by side.

For models that continuous batching cannot serve, as those spread over several devices: there each
step moves all weights, or walks through all devices, whoever it is for. Who comes later waits
until these are through. Greedy answers alone, which come out as they would one by one. Used by
the model's thread alone; how many fit is the planner's arithmetic.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from backend.conversation import End, Request
from backend.local.preparation import Prepared
from backend.local.reading import require_places
from backend.local.stopping import Stopped
from backend.local.together.batch import Loaded
from backend.local.together.writing import Writing
from backend.local.waiting import Manner
from backend.local.worker import Ended
from backend.planner.plan import Plan
from backend.planner.turn import turn_bytes
from backend.stream import AnswerStream

Fits = Callable[[int, Prepared], bool]


@dataclass(eq=False, slots=True)
class _Row:
    writing: Writing
    features: torch.Tensor | None
    written: int = 0
    ended: Ended | None = None

    @property
    def prepared(self) -> Prepared:
        return self.writing.prepared


@dataclass(slots=True)
class _Pass:
    """The rows that are answered side by side, and what the network remembers of them."""

    rows: list[_Row]
    mask: torch.Tensor  # [rows, tokens], 0 where a shorter prompt is padded
    latest: torch.Tensor  # [rows, 1], the last token of each
    cache: Any  # a `DynamicCache`


class Rows:
    """Satisfies `backend.local.worker.Together`."""

    def __init__(self, loaded: Loaded, places: int, fits: Fits) -> None:
        """`fits` tells whether so many rows have room of which this is the longest."""
        self.places = places
        self._loaded = loaded
        self._fits = fits
        embeddings: Any = loaded.network.get_input_embeddings()
        self._device: torch.device = embeddings.weight.device
        self._gathered: list[_Row] = []
        self._came = False
        self._pass: _Pass | None = None
        self._ended: list[Ended] = []

    def __len__(self) -> int:
        return len(self._gathered) + (len(self._pass.rows) if self._pass else 0)

    @property
    def closed(self) -> bool:
        """Whether nobody reads the pass any more; looked at before each layer."""
        return self._pass is not None and all(row.writing.stream.closed for row in self._pass.rows)

    def judge(self, prepared: Prepared, request: Request) -> Manner:
        """Greedy requests without a penalty, until a pass has begun and while there is room."""
        sampling = request.sampling
        if sampling.temperature > 0 or sampling.repetition_penalty != 1:
            return Manner.ALONE
        if self._pass is not None:
            return Manner.LATER
        longest = max(
            (prepared, *(row.prepared for row in self._gathered)),
            key=lambda one: one.prompt.budget.total + one.room,
        )
        if self._fits(len(self._gathered) + 1, longest):
            return Manner.TOGETHER
        return Manner.LATER if self._gathered else Manner.ALONE

    def kept_of(self, prepared: Prepared) -> int:
        """Nothing: rows are not gone on from."""
        return 0

    def join(self, prepared: Prepared, stream: AnswerStream) -> None:
        """Encode a request's pictures, and have it wait for those who come with it.

        Raises what went wrong with it alone, `Stopped` if its stream was closed meanwhile.
        """
        budget, loaded = prepared.prompt.budget, self._loaded
        stream.begin(budget.total, budget.visual)
        features = None
        if prepared.cuts:
            with loaded.stopped_by(stream), torch.inference_mode():
                features = loaded.features.of(list(prepared.cuts))
        self._require_places(prepared, features)
        writing = Writing(prepared, stream, loaded.facts, loaded.table)
        self._gathered.append(_Row(writing, features))
        self._came = True

    def step(self) -> Sequence[Ended]:
        """A token for everybody, once nobody else came since the last call."""
        came, self._came = self._came, False
        if not came:
            try:
                with self._loaded.stopped_by(self), torch.inference_mode():
                    self._go_on()
            except Stopped:
                self._end_all(End.STOPPED)
            except Exception as error:  # ends those who took part, not those who come
                self._end_all(error)
        ended, self._ended = self._ended, []
        return ended

    def _go_on(self) -> None:
        if self._pass is None:
            self._pass, self._gathered = self._begin(self._gathered), []
        self._drop_the_ended(self._pass)
        if not self._pass.rows:
            self._pass = None
            return
        self._give(self._pass, self._forward(self._pass))

    def _begin(self, rows: list[_Row]) -> _Pass:
        """Prompts side by side, the shorter ones padded on the left."""
        prompts = [torch.tensor(row.prepared.prompt.ids) for row in rows]
        ids = pad_sequence(prompts, batch_first=True, padding_side="left")
        ones = [torch.ones_like(prompt) for prompt in prompts]
        mask = pad_sequence(ones, batch_first=True, padding_side="left")
        config = self._loaded.network.config.get_text_config(decoder=True)
        cache = DynamicCache(config=config)
        return _Pass(rows, mask.to(self._device), ids.to(self._device), cache)

    def _drop_the_ended(self, now: _Pass) -> None:
        for row in now.rows:
            if row.ended is None and row.writing.stream.closed:
                row.ended = row.writing.end(End.STOPPED)
        left = [n for n, row in enumerate(now.rows) if row.ended is None]
        if len(left) == len(now.rows):
            return
        # Before anything that can fail, so that nobody's end is told twice.
        self._ended += [row.ended for row in now.rows if row.ended is not None]
        now.rows = [now.rows[number] for number in left]
        kept = torch.tensor(left, dtype=torch.long, device=self._device)
        if left and now.cache.get_seq_length():
            for layer in now.cache.layers:
                layer.batch_select_indices(kept.to(layer.keys.device))
        now.mask, now.latest = now.mask[kept], now.latest[kept]

    def _forward(self, now: _Pass) -> list[int]:
        """The likeliest next token of each row."""
        reading = not now.cache.get_seq_length()
        positions = (now.mask.cumsum(-1) - 1).clamp(min=0)[:, -now.latest.shape[1] :]
        features = [row.features for row in now.rows if row.features is not None]
        pictures: dict[str, Any] = {}
        if reading and features:
            seen = BaseModelOutputWithPooling(pooler_output=torch.cat(features))
            pictures = {"mm_encoder_outputs": {"image": seen}}
        network: Any = self._loaded.network
        logits = network(
            input_ids=now.latest,
            attention_mask=now.mask,
            position_ids=positions,
            cache=now.cache,
            use_cache=True,
            logits_to_keep=1,
            **pictures,
        ).logits
        now.latest = logits[:, -1].argmax(-1, keepdim=True)
        now.mask = torch.cat([now.mask, torch.ones_like(now.mask[:, :1])], dim=1)
        tokens: list[int] = now.latest[:, 0].tolist()
        return tokens

    def _give(self, now: _Pass, tokens: Sequence[int]) -> None:
        for row, token in zip(now.rows, tokens, strict=True):
            row.features = None
            row.written += 1
            last = token in self._loaded.facts.eos_token_ids or row.written >= row.prepared.room
            row.ended = row.writing.take(token, last)
        self._drop_the_ended(now)
        if not now.rows:
            self._pass = None

    def _end_all(self, why: End | Exception) -> None:
        for row in (*self._gathered, *(self._pass.rows if self._pass else ())):
            ended = row.writing.end(why) if isinstance(why, End) else row.writing.fail(why)
            self._ended.append(ended)
        self._gathered, self._pass = [], None

    def _require_places(self, prepared: Prepared, features: torch.Tensor | None) -> None:
        """Rows share one list of features: a wrong count would show one row another's picture."""
        places = prepared.prompt.ids.count(self._loaded.network.config.image_token_id)
        given = features.shape[0] * features.shape[1] if features is not None else 0
        require_places(places, given)


def rows_fit(plan: Plan, free_on: Callable[[str], int], rows: int, longest: Prepared) -> bool:
    """Whether every device has room for so many rows, each as costly as the longest."""
    budget = longest.prompt.budget
    needs = turn_bytes(plan, budget.total, longest.room, budget.tiles)
    return all(rows * need <= free_on(name) for name, need in needs.items())
