"""The model: pixels and ids in, an answer out. Drives transformers' own InternVL.

Used by the worker's thread alone: one `answer` at a time, and in `batching` what answers several.
It knows neither sessions nor queues, and files only as tiles.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, InternVLForConditionalGeneration
from transformers.cache_utils import Cache, DynamicCache

from backend.checkpoint.facts import Facts
from backend.checkpoint.tokens import Tokens
from backend.conversation import End
from backend.errors import OutOfMemory
from backend.local.compiled import COMPILER, Compiled, leave, open_compiled, spare
from backend.local.decoding import ByteTable
from backend.local.devices import describe, give_back
from backend.local.faults import is_out_of_memory
from backend.local.loaded import exact, places_of, precision_of
from backend.local.memory.ahead import Interest
from backend.local.memory.caches import Caches, Start
from backend.local.memory.features import Features
from backend.local.memory.host import Host
from backend.local.memory.prefix import Reading
from backend.local.pixels import normalise
from backend.local.preparation import Cut, Prepared
from backend.local.reading import read, see
from backend.local.rows import Fits, Rows
from backend.local.sampling import configure, penalise, seed
from backend.local.stopping import Closable, Stopped
from backend.local.streamer import AnswerStreamer, StopFound
from backend.local.together.batch import Loaded
from backend.local.together.opening import open_batching
from backend.local.together.size import Size
from backend.local.worker import Batching
from backend.stream import AnswerStream

KEPT_BYTES = 1 << 30
TILES_AHEAD = 4  # at once, so that a question waits for few that nobody asked about yet
FEATURES_SHARE = 4  # a tile's features take 1/8 of its keys and values (8B)


class LocalModel:
    """One loaded InternVL; satisfies `backend.local.worker.Model`."""

    def __init__(
        self,
        network: InternVLForConditionalGeneration,
        facts: Facts,
        tokens: Tokens,
        refuse: Callable[[Prepared], None] = lambda prepared: None,
        kept_bytes: int = KEPT_BYTES,
        host_bytes: int = 0,
    ) -> None:
        """`refuse` raises `OutOfMemory` for a question that the devices have no room for.

        At most `kept_bytes` of what was computed are kept for later questions, and caches that
        leave the device for at most `host_bytes` of the host's memory.
        """
        self.device = describe(places_of(network))
        self.precision = precision_of(network)
        self.attention = str(network.config._attn_implementation)
        self._network = network
        # Where ids go in and logits come out; the first parameter, which transformers asks, may
        # lie on another GPU or in a store.
        embeddings: Any = network.get_input_embeddings()
        self._device: torch.device = embeddings.weight.device
        self._refuse = refuse
        features = kept_bytes // FEATURES_SHARE
        self.features = Features(self._encode, features)
        may_keep = exact(network)
        self.caches = Caches(
            kept_bytes - features if may_keep else 0, Host(host_bytes if may_keep else 0)
        )
        self._facts = facts
        self._table = ByteTable(tokens)
        self.batching = Batching()
        self.compiled: Compiled | None = None
        self._alone = threading.Lock()
        self._stream: Closable | None = None
        # Else `generate` would mix the checkpoint's sampling defaults into a person's choice.
        network.generation_config = GenerationConfig()
        for layer in (*network.model.vision_tower.encoder.layer, *_decoder_layers(network)):
            layer.register_forward_pre_hook(self._stop_if_closed)

    def answer(
        self,
        prepared: Prepared,
        stream: AnswerStream,
        between: Callable[[], None] = lambda: None,
    ) -> End:
        """Write the answer into `stream`; raises `Stopped` within a layer after that is closed.

        `between` is called after each token: others may be given a step there.
        """
        if not self._alone.acquire(blocking=False):
            raise AssertionError("two generations at once on one model")
        try:
            with self.stopped_by(stream), torch.inference_mode():
                return self._generate(prepared, stream, between)
        finally:
            self._alone.release()

    @contextmanager
    def stopped_by(self, stream: Closable | None) -> Iterator[None]:
        """Have layers raise `Stopped` when `stream` is closed; with `None` nothing ends them."""
        before, self._stream = self._stream, stream
        try:
            yield
        finally:
            self._stream = before

    def open_batching(self, wanted: str, size: Size) -> None:
        """Answer several requests at once from now on, if that is wanted and can be.

        Raises `BadSetting`, with the reason, when it is insisted on and cannot be.
        """
        self.batching = open_batching(wanted, self._loaded, size)

    def open_rows(self, places: int, fits: Fits) -> None:
        """Answer those who wait together side by side from now on; see `backend.local.rows`."""
        self.batching = Batching(Rows(self._loaded, places, fits))

    def open_compiled(self, wanted: str, compiler: str | Callable[..., Any] = COMPILER) -> None:
        """Compile the steps of answers given alone, if that is wanted, and can be and pays.

        Raises `BadSetting`, with the reason, when it is insisted on and cannot be.
        """
        batched = self.batching.batch is not None
        self.compiled = open_compiled(wanted, self._network, batched, compiler)
        attention = str(self._network.config._attn_implementation)
        self.attention = f"{attention}, compiled" if self.compiled else attention

    @property
    def _loaded(self) -> Loaded:
        return Loaded(self._network, self._facts, self._table, self.features, self.stopped_by)

    def kept_of(self, prepared: Prepared) -> int:
        """Tokens of a prompt that need no reading when it is answered alone."""
        return self.caches.kept_of(self._read(prepared))

    def look_ahead(self, cut: Cut, interest: Interest) -> Iterator[None]:
        """Encode tiles that will be asked about, a few at each step, while there is interest."""
        steps = self.features.ahead([cut], TILES_AHEAD)
        more = True
        while more and interest.wanted:
            with self.stopped_by(interest), torch.inference_mode():
                more = next(steps, True) is None
            yield

    def recover(self, short: bool) -> None:
        """Free what a failed request left on the device, and what is kept if memory was `short`.

        Raises if the device works no more.
        """
        if short:  # nobody knows how much room is wanting
            self._free_all()
        gc.collect()
        give_back()
        torch.ones(1, device=self._device).add_(1).item()

    def forget(self) -> None:
        """Keep nothing of what was computed for earlier questions."""
        self.caches.clear()
        self.features.clear()

    def _free_all(self) -> None:
        self.forget()
        if self.compiled:
            self.compiled.free()

    def _generate(
        self, prepared: Prepared, stream: AnswerStream, between: Callable[[], None]
    ) -> End:
        reading = self._read(prepared)
        cache, tokens = self._enter(self._start(prepared, reading), prepared, reading)
        budget = prepared.prompt.budget
        stream.begin(budget.total, budget.visual, tokens)
        streamer = AnswerStreamer(stream, self._table, self._facts.eos_token_ids, between)
        try:
            self._write(prepared, cache, tokens, reading, streamer)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):  # to copy what is kept of it would take more
                cache.layers.clear()
                self._free_all()
            raise
        finally:
            self.caches.keep(reading.followed_by(streamer.taken), leave(cache))
        return streamer.end_reason

    def _enter(self, start: Start, prepared: Prepared, reading: Reading) -> tuple[Cache, int]:
        """The cache to go on from, and the tokens that it holds."""
        if self.compiled is None:
            return start.cache, start.tokens
        return self.compiled.enter(start.cache, len(reading) + prepared.room), start.tokens

    def _write(
        self,
        prepared: Prepared,
        cache: Cache,
        start: int,
        reading: Reading,
        streamer: AnswerStreamer,
    ) -> None:
        """Read what comes after `start` tokens, which `cache` holds, and write the answer."""
        sampling = streamer.request.sampling
        ids = torch.from_numpy(reading.ids)[None].to(self._device)
        pictures = see(self.features, prepared, reading, start)
        if sampling.temperature > 0:
            seed(sampling.seed)
        config = configure(sampling, prepared.room, self._facts.eos_token_ids)
        config.compile_config = self.compiled.config if self.compiled else None
        with suppress(StopFound):
            self._network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                cache=cache,
                generation_config=config,
                logits_processor=penalise(sampling, ids.shape[1]),
                streamer=streamer,
                **pictures,
            )

    def _read(self, prepared: Prepared) -> Reading:
        return read(prepared, self._network.config.image_token_id, self._facts.tokens_per_tile)

    def _start(self, prepared: Prepared, reading: Reading) -> Start:
        """The best kept cache, or a new one. What is kept yields to the question's own room."""
        start = self.caches.start(reading)
        # Only now is the room known: answers before this one have left it.
        while (refusal := self._refusal(prepared)) and self._forget_some():
            pass
        if refusal and start:
            start, refusal = None, self._refusal(prepared)
        if refusal:
            raise refusal
        config = self._network.config.get_text_config(decoder=True)
        return self.caches.fetch(start) if start else Start(DynamicCache(config=config), 0)

    def _refusal(self, prepared: Prepared) -> OutOfMemory | None:
        if self.compiled:
            more = spare(prepared.prompt.budget.total + prepared.room)
            prepared = replace(prepared, room=prepared.room + more)
        try:
            self._refuse(prepared)
        except OutOfMemory as refusal:
            return refusal
        return None

    def _forget_some(self) -> bool:
        """Free the device of the oldest cache, else of all features; false if there is nothing."""
        if self.caches.free_oldest() or (self.compiled and self.compiled.free()):
            return True
        kept = self.features.nbytes
        self.features.clear()
        return kept > 0

    def _encode(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        """Features of tiles [n, height, width, 3], as [n, tokens per tile, width]."""
        pixels = torch.from_numpy(tiles).to(self._device)  # bytes travel, not floats
        normal = normalise(pixels, self._facts.mean, self._facts.std)
        outputs = self._network.model.get_image_features(pixel_values=normal, return_dict=True)
        features: torch.Tensor = outputs.pooler_output
        return features

    def _stop_if_closed(self, *_: object) -> None:
        """Before each layer, so that Stop ends a long prefill too; compiled steps are short."""
        if torch.compiler.is_compiling():
            return
        if self._stream is not None and self._stream.closed:
            raise Stopped


def _decoder_layers(network: InternVLForConditionalGeneration) -> list[torch.nn.Module]:
    return list(network.model.language_model.layers)
