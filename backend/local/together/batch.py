"""The batch: requests that are answered at the same time, each leaving when it is done.

Used by the model's thread alone. A request comes in between two steps; its pictures are encoded
then, with a step for the others after each batch of tiles. It gets room for all that it may ever
read and write, so that nobody has to make way later. What happens to one is told in `step`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from transformers import InternVLForConditionalGeneration

from backend.checkpoint.facts import Facts
from backend.conversation import End, Request
from backend.errors import EngineFailed
from backend.local.decoding import ByteTable
from backend.local.memory.features import Features
from backend.local.preparation import Cut, Prepared
from backend.local.reading import require_places
from backend.local.stopping import Closable
from backend.local.together.ability import must_be_alone
from backend.local.together.packed import PackedNetwork
from backend.local.together.pictures import PictureRows
from backend.local.together.size import Size
from backend.local.together.steps import Job, Steps, Taken
from backend.local.together.writing import Writing
from backend.local.waiting import Manner
from backend.local.worker import Ended
from backend.stream import AnswerStream

StoppedBy = Callable[[Closable | None], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a batch needs of a model.

    `stopped_by` has the network's layers end their work when a stream is closed.
    """

    network: InternVLForConditionalGeneration
    facts: Facts
    table: ByteTable
    features: Features
    stopped_by: StoppedBy


class Batch:
    """Satisfies `backend.local.worker.Together`."""

    def __init__(self, loaded: Loaded, size: Size) -> None:
        network, facts = loaded.network, loaded.facts
        embeddings: Any = network.get_input_embeddings()
        like = embeddings.weight.detach()
        tiles = size.tokens // facts.tokens_per_tile
        self.places = size.places
        self._rows = PictureRows(len(like), facts.tokens_per_tile, tiles, like)
        packed = PackedNetwork(network, self._rows.look_up)
        self._steps = Steps(packed, network.config.get_text_config(decoder=True), like, size)
        self._place = network.config.image_token_id
        self._facts = facts
        self._table = loaded.table
        self._features = loaded.features
        self._stopped_by = loaded.stopped_by
        self._size = size
        self._names = count()
        self._running: dict[str, Writing] = {}
        self._ended: list[Ended] = []

    def __len__(self) -> int:
        return len(self._running)

    def judge(self, prepared: Prepared, request: Request) -> Manner:
        """Whether a request may come in now, later, or has to be answered alone."""
        need = self._steps.pages_of(prepared.prompt.budget.total + prepared.room)
        if must_be_alone(request.sampling) or need > self._size.pages:
            return Manner.ALONE
        if need > self._size.pages - self._steps.promised:
            return Manner.LATER
        return Manner.TOGETHER if not self or self._can_number(prepared) else Manner.LATER

    def kept_of(self, prepared: Prepared) -> int:
        """Tokens of a prompt that need no reading, since they are on pages."""
        try:
            return self._steps.kept_of(self._spell(prepared, self._rows.known_ids_of))
        except EngineFailed:  # told to the one who asks, in `join`
            return 0

    def join(self, prepared: Prepared, stream: AnswerStream) -> None:
        """Let a request in that was judged to fit.

        Raises what went wrong with it alone, `Stopped` if its stream was closed meanwhile.
        """
        budget = prepared.prompt.budget
        stream.begin(budget.total, budget.visual)
        name = str(next(self._names))
        with torch.inference_mode(), ExitStack() as undo:
            seen = self._see(prepared.cuts, stream)
            if not self._can_number(prepared):
                self._forget()
                seen = self._see(prepared.cuts, stream)
            writing = Writing(prepared, stream, self._facts, self._table)
            ids = self._spell(prepared, self._rows.ids_of)
            self._rows.pin(_keys(prepared))
            undo.callback(self._rows.unpin, _keys(prepared))
            undo.callback(self._steps.remove, name)
            for key, features in seen.items():
                self._rows.put(key, features)
            sampling = stream.request.sampling
            self._steps.add(Job(name, ids, prepared.room, self._facts.eos_token_ids, sampling))
            undo.pop_all()
        self._running[name] = writing

    def step(self) -> list[Ended]:
        """Take everybody one step further; tells who is through, since the last call."""
        self._go_on()
        ended, self._ended = self._ended, []
        return ended

    def _go_on(self) -> None:
        for name, running in list(self._running.items()):
            if running.stream.closed:
                self._end(name, running.end(End.STOPPED))
        try:
            with self._stopped_by(None), torch.inference_mode():
                taken = self._steps.run()
        except Exception as error:  # ends those who took part, not those who come
            self._fail(error)
            return
        for one in taken:
            self._give(one)

    def _give(self, taken: Taken) -> None:
        running = self._running[taken.name]
        if taken.kept is not None:
            budget = running.prepared.prompt.budget
            running.stream.begin(budget.total, budget.visual, taken.kept)
        if taken.token is not None:
            ended = running.take(taken.token, taken.last)
            if ended is not None:
                self._end(taken.name, ended)

    def _end(self, name: str, ended: Ended) -> None:
        self._rows.unpin(_keys(self._running.pop(name).prepared))
        self._steps.remove(name)
        self._ended.append(ended)

    def _fail(self, error: Exception) -> None:
        """End everybody: nobody knows what a broken step left on the pages."""
        self._ended += [running.fail(error) for running in self._running.values()]
        self._running.clear()
        self._forget()

    def _forget(self) -> None:
        self._steps.forget()
        self._rows.clear()

    def _can_number(self, prepared: Prepared) -> bool:
        return self._rows.can_number((cut.key, len(cut.tiles)) for cut in prepared.cuts)

    def _see(self, cuts: Sequence[Cut], stream: AnswerStream) -> dict[bytes, torch.Tensor]:
        """Features of the contents that have no rows; the others take steps meanwhile."""
        seen: dict[bytes, torch.Tensor] = {}
        while new := {
            cut.key: cut for cut in cuts if not (cut.key in seen or self._rows.has(cut.key))
        }:
            with self._stopped_by(stream):
                features = self._features.of(list(new.values()), self._go_on)
            sizes = [len(cut.tiles) for cut in new.values()]
            seen |= zip(new, torch.split(features, sizes), strict=True)
        return seen

    def _spell(self, prepared: Prepared, ids_of: Callable[[bytes, int], range]) -> list[int]:
        """The prompt's ids, with a picture's own ones where the prompt has places for it."""
        ids = np.array(prepared.prompt.ids, np.int64)
        pictures = [ids_of(cut.key, len(cut.tiles)) for cut in prepared.cuts]
        (places,) = np.nonzero(ids == self._place)
        require_places(len(places), sum(map(len, pictures)))
        if pictures:
            ids[places] = np.concatenate(pictures)
        tokens: list[int] = ids.tolist()
        return tokens


def _keys(prepared: Prepared) -> set[bytes]:
    """The contents that a request looks at."""
    return {cut.key for cut in prepared.cuts}
