"""transformers' continuous batching, one step at a time, in the thread that owns the model.

Its manager would run the steps in a thread of its own that is no daemon, deliver nothing for a
cancelled request, and end with everybody in it at the first exception. So the manager is left
out, and what does its work is driven from here: the scheduler (chunked reading, whoever writes
first), the paged cache with its shared prefixes, and the processor of batches. Some of that is
not public: this file and its neighbours follow transformers 5.24.0, which requirements.txt pins.

It knows requests by name, as token ids; neither pictures nor streams.
"""

import queue
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching import (
    FIFOScheduler,
    PagedAttentionCache,
    RequestState,
    RequestStatus,
)
from transformers.generation.continuous_batching.continuous_api import (
    BackgroundThreadStatus,
    ContinuousBatchProcessor,
    OutputRouter,
)
from transformers.generation.continuous_batching.distributed import DistributedHelper

from backend.conversation import Sampling
from backend.local.together.packed import PackedNetwork
from backend.local.together.pages import NAME
from backend.local.together.places import FULL
from backend.local.together.sampling import CHOICE, RowSampler
from backend.local.together.size import Size


@dataclass(frozen=True, slots=True)
class Job:
    """A request as the steps know it."""

    name: str
    ids: Sequence[int]
    room: int  # tokens it may write
    eos: Sequence[int]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step did for one request."""

    name: str
    kept: int | None  # at its first step: tokens that needed no reading, since others had read them
    token: int | None  # the new one, if it is through with reading
    last: bool


class Steps:
    """Requests by name, and the steps that all of them take together."""

    def __init__(self, network: PackedNetwork, config: Any, like: torch.Tensor, size: Size) -> None:
        """`config` is the text model's; keys and values are of the dtype and device of `like`."""
        self._network = network
        # Under this name transformers makes no mask over all requests.
        self._config = copy(config)
        self._config._attn_implementation = NAME
        self._like = like
        self._size = size
        self._processor: Any = None  # a `ContinuousBatchProcessor` while there is one
        self._begun: set[str] = set()
        self._pages: dict[str, int] = {}  # that each request may come to fill

    @property
    def promised(self) -> int:
        """Pages that the requests at hand may come to fill."""
        return sum(self._pages.values())

    def pages_of(self, tokens: int) -> int:
        """Pages that so many tokens fill."""
        return -(-tokens // self._size.page)

    def kept_of(self, ids: list[int]) -> int:
        """How many of the first ids were read before and are still on pages."""
        if self._processor is None:
            return 0
        allocator = self._processor.cache.cache_allocators[FULL]
        return len(allocator.match_prefix_blocks(ids)) * self._size.page

    def add(self, job: Job) -> None:
        """Let a request take part from the next step on."""
        processor = self._processor = self._processor or self._begin()
        self._pages[job.name] = self.pages_of(len(job.ids) + job.room)
        self._make_room(processor.cache, list(job.ids))
        processor.scheduler.add_waiting_request(
            RequestState(
                request_id=job.name,
                initial_tokens=list(job.ids),
                max_new_tokens=job.room,
                eos_token_id=list(job.eos),
                logit_processor_kwargs={CHOICE: job.sampling},
            )
        )

    def remove(self, name: str) -> None:
        """Let a request take part no more, and free its pages."""
        if self._pages.pop(name, None) is not None and self._processor is not None:
            self._processor.scheduler.set_request_cancellation(name)
            self._processor.scheduler.clear_cancelled_requests()
        self._begun.discard(name)

    def run(self) -> list[Taken]:
        """Take one step. Whatever it raises, `forget` must follow."""
        processor = self._processor
        if processor is None or not processor.prepare_next_batch():
            return []
        processor._generation_step(self._network)
        processor.update_batch()
        taken = [self._tell(future) for future in processor.inputs_and_outputs.requests_in_batch]
        for one in taken:
            if one.last:
                self._pages.pop(one.name)
                self._begun.discard(one.name)
        return taken

    def forget(self) -> None:
        """Drop all requests, and everything that was kept of earlier ones."""
        self._processor = None
        self._begun.clear()
        self._pages.clear()

    def _tell(self, future: Any) -> Taken:
        state: RequestState = future.state
        kept = None
        if state.request_id not in self._begun:
            self._begun.add(state.request_id)
            kept = state.position_offset - future.query_length
        token = state.generated_tokens[-1] if future.has_new_token else None
        return Taken(state.request_id, kept, token, state.status is RequestStatus.FINISHED)

    def _make_room(self, cache: PagedAttentionCache, ids: list[int]) -> None:
        """Let go of kept prefixes before they could stand in somebody's way.

        Those used longest ago go first, and what a new request goes on from stays. transformers
        would let go of all at once.
        """
        allocator: Any = cache.cache_allocators[FULL]
        kept = allocator.ledger.cached_blocks  # in the order in which they were used
        own = [block for block in allocator.match_prefix_blocks(ids) if block in kept]
        for block in own:
            kept[block] = kept.pop(block)
        used = sum(map(len, allocator.block_table.values())) + len(own)
        free = int(cache.compute_free_capacity(relative=False)) // allocator.bytes_per_block
        let_go(cache, self.promised - used - free)

    def _begin(self) -> Any:
        used = [self._like.device] if self._like.is_cuda else []
        with torch.random.fork_rng(used):  # it seeds everybody's generator
            return make_processor(self._config, self._like, self._size)


def let_go(cache: PagedAttentionCache, pages: int) -> None:
    """Free so many pages of kept prefixes, if there are as many, the oldest first."""
    allocator: Any = cache.cache_allocators[FULL]
    ledger = allocator.ledger
    oldest = list(islice(ledger.cached_blocks, max(0, pages)))
    for block in oldest:
        del ledger.cached_blocks[block]
        del ledger.hash_to_block[ledger.block_to_hash.pop(block)]
    cache.pool.free_blocks(allocator.index, oldest)


def make_processor(config: Any, like: torch.Tensor, size: Size) -> ContinuousBatchProcessor:
    """A processor that keeps to a size, everything that it would guess said.

    No double buffering and no CUDA graphs: steps are not planned while another one runs, so that
    a Stop takes effect at the next one.
    """
    settings = ContinuousBatchingConfig(
        page_size=size.page,
        num_blocks=size.pages,
        max_batch_tokens=size.chunk,
        max_requests_per_batch=size.places,
        max_blocks_per_request=size.pages,
        max_memory_percent=1.0,
        use_cuda_graph=(False, False),
        use_async_batching=False,
    )
    alone = DistributedHelper(device_mesh=None, cpu_group_timeout=None, tp_plan={})
    cache = PagedAttentionCache(
        config, settings, like.device, alone, like.dtype, model_supports_logits_to_keep=True
    )
    return ContinuousBatchProcessor(
        cache=cache,
        config=config,
        generation_config=GenerationConfig(do_sample=False),  # chance comes in with the scores
        continuous_batching_config=settings,
        logit_processor=_as_processors(RowSampler(like.device)),
        input_queue=queue.Queue(),
        cancel_queue=queue.Queue(),
        output_router=OutputRouter(),
        background_thread_status=BackgroundThreadStatus(),
        model_device=like.device,
        model_dtype=like.dtype,
        scheduler=FIFOScheduler(cache, 0.0, size.places),
        distributed_helper=alone,
    )


def _as_processors(sampler: RowSampler) -> Any:
    """For the type checker: transformers names a class where it wants a face."""
    return sampler
