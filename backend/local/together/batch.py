"""The batch: requests that are answered at the same time, each leaving when it is done.

Used by the model's thread alone. A request comes in between two steps; its pictures are encoded
then, with a step for the others after each batch of tiles. It gets room for all that it may ever
read and write, so that nobody has to make way later. What happens to one is told in `step`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from transformers import InternVLForConditionalGeneration

from backend.checkpoint.facts import Facts
from backend.conversation import End, Request
from backend.errors import EngineError, EngineFailed
from backend.local.decoding import ByteTable
from backend.local.faults import explain_answering
from backend.local.memory.features import Features
from backend.local.preparation import Cut, Prepared
from backend.local.stopping import Stopped
from backend.local.streamer import AnswerStreamer, StopFound
from backend.local.together.ability import must_be_alone
from backend.local.together.packed import PackedNetwork
from backend.local.together.pictures import PictureRows
from backend.local.together.size import Size
from backend.local.together.steps import Job, Steps, Taken
from backend.local.waiting import Manner
from backend.stream import AnswerStream

StoppedBy = Callable[[AnswerStream | None], AbstractContextManager[None]]


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


@dataclass(frozen=True, slots=True)
class Ended:
    """An answer that is over, and how."""

    stream: AnswerStream
    outcome: End | EngineError


@dataclass(frozen=True, eq=False, slots=True)
class _Running:
    stream: AnswerStream
    streamer: AnswerStreamer
    prepared: Prepared

    @property
    def keys(self) -> set[bytes]:
        """The contents that it looks at."""
        return {cut.key for cut in self.prepared.cuts}


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
        self._running: dict[str, _Running] = {}
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

    def join(self, prepared: Prepared, stream: AnswerStream) -> None:
        """Let a request in that was judged to fit.

        Raises what went wrong with it alone, `Stopped` if its stream was closed meanwhile.
        """
        budget = prepared.prompt.budget
        stream.begin(budget.total, budget.visual)
        with torch.inference_mode():
            seen = self._see(prepared.cuts, stream)
            if not self._can_number(prepared):
                self._forget()
                seen = self._see(prepared.cuts, stream)
            streamer = AnswerStreamer(stream, self._table, self._facts.eos_token_ids)
            streamer.put(torch.empty(1, 0))  # the prompt comes first, and is passed over
            running = _Running(stream, streamer, prepared)
            ids = self._spell(prepared)
            self._rows.pin(running.keys)
            for key, features in seen.items():
                self._rows.put(key, features)
        name = str(next(self._names))
        self._running[name] = running
        sampling = stream.request.sampling
        self._steps.add(Job(name, ids, prepared.room, self._facts.eos_token_ids, sampling))

    def step(self) -> list[Ended]:
        """Take everybody one step further; tells who is through, since the last call."""
        self._go_on()
        ended, self._ended = self._ended, []
        return ended

    def _go_on(self) -> None:
        for name, running in list(self._running.items()):
            if running.stream.closed:
                self._end(name, End.STOPPED)
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
            outcome = self._write(running, taken.token, taken.last)
            if outcome is not None:
                self._end(taken.name, outcome)

    def _write(self, running: _Running, token: int, last: bool) -> End | EngineError | None:
        """Hand on a token; tells the end if this is it."""
        try:
            running.streamer.put(torch.tensor([token]))
            if last:
                running.streamer.end()
        except StopFound:
            return running.streamer.end_reason
        except Stopped:
            return End.STOPPED
        except Exception as error:  # what one answer's text comes to is no matter of the others
            return explain_answering(error, running.prepared, len(running.stream.token_ids))
        return running.streamer.end_reason if last else None

    def _end(self, name: str, outcome: End | EngineError) -> None:
        running = self._running.pop(name)
        self._rows.unpin(running.keys)
        self._steps.remove(name)
        self._ended.append(Ended(running.stream, outcome))

    def _fail(self, error: Exception) -> None:
        """End everybody: nobody knows what a broken step left on the pages."""
        for running in self._running.values():
            told = explain_answering(error, running.prepared, len(running.stream.token_ids))
            self._ended.append(Ended(running.stream, told))
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

    def _spell(self, prepared: Prepared) -> list[int]:
        """The prompt's ids, with a picture's own ones where the prompt has places for it."""
        ids = np.array(prepared.prompt.ids, np.int64)
        pictures = [self._rows.ids_of(cut.key, len(cut.tiles)) for cut in prepared.cuts]
        (places,) = np.nonzero(ids == self._place)
        if len(places) != sum(map(len, pictures)):
            raise EngineFailed(
                f"The prompt has {len(places)} places for {sum(map(len, pictures))} tokens of "
                "pictures.",
                "The checkpoint's files do not go together: download it again.",
            )
        if pictures:
            ids[places] = np.concatenate(pictures)
        return [int(token) for token in ids]
