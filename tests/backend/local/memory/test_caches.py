"""Caches are found by what they share, taken over or branched, and leave when room is wanted."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import DynamicCache, Qwen2Config

from backend.local.memory.caches import Caches, branch, crop, croppable, even, nbytes_of
from backend.local.memory.prefix import Reading

LAYERS = 3
TOKEN_BYTES = LAYERS * 2 * 2 * 4 * 4  # keys and values of two heads of four float32
ROOMY = 1 << 20


def read(ids: Sequence[int]) -> Reading:
    return Reading(np.array(ids, np.int64), (), place=-1, tokens_per_tile=1)


def cache_of(ids: Sequence[int], layers: int = LAYERS) -> DynamicCache:
    """Keys and values that tell of which token they are."""
    cache = DynamicCache()
    grow(cache, ids, layers)
    return cache


def grow(cache: DynamicCache, ids: Sequence[int], layers: int = LAYERS) -> None:
    state = torch.tensor(ids).float()[None, None, :, None].expand(1, 2, len(ids), 4)
    for layer in range(layers):
        cache.update(state, -state, layer)


def held(cache: DynamicCache) -> list[int]:
    (ids,) = {tuple(layer.keys[0, 0, :, 0].int().tolist()) for layer in cache.layers}
    assert all(torch.equal(layer.keys, -layer.values) for layer in cache.layers)
    return list(ids)


def test_a_question_that_goes_on_takes_the_cache_over() -> None:
    caches = Caches(ROOMY)
    kept = cache_of([1, 2, 3])
    caches.keep(read([1, 2, 3]), kept)
    start = caches.start(read([1, 2, 3, 4]))
    assert start is not None and start.cache is kept and start.tokens == 3
    assert len(caches) == 0 == caches.nbytes
    grow(start.cache, [4, 5])
    caches.keep(read([1, 2, 3, 4, 5, 6]), start.cache)  # the last token was never read
    again = caches.start(read([1, 2, 3, 4, 5, 6]))
    assert again is not None and held(again.cache) == [1, 2, 3, 4, 5]


def test_a_question_that_branches_off_leaves_the_cache_as_it_was() -> None:
    caches = Caches(ROOMY)
    caches.keep(read([1, 2, 3, 4]), cache_of([1, 2, 3, 4]))
    start = caches.start(read([1, 2, 7]))
    assert start is not None and start.tokens == 2 and held(start.cache) == [1, 2]
    grow(start.cache, [7, 8])
    caches.keep(read([1, 2, 7, 8]), start.cache)
    old, new = caches.start(read([1, 2, 3, 4, 5])), caches.start(read([1, 2, 7, 8, 9]))
    assert old is not None and held(old.cache) == [1, 2, 3, 4]
    assert new is not None and held(new.cache) == [1, 2, 7, 8]


def test_a_branch_shares_its_storage_until_it_grows() -> None:
    trunk = cache_of([1, 2, 3, 4])
    twin = branch(trunk, 2)
    storage = trunk.layers[0].keys.data_ptr()
    assert twin.layers[0].keys.data_ptr() == storage
    grow(twin, [9])
    assert held(trunk) == [1, 2, 3, 4] and trunk.layers[0].keys.data_ptr() == storage


def test_the_cache_that_shares_most_is_found() -> None:
    caches = Caches(ROOMY)
    for ids in ([1, 2, 9], [1, 2, 3, 9], [1, 9], [8, 8, 8, 8, 8]):
        caches.keep(read(ids), cache_of(ids))
    start = caches.start(read([1, 2, 3, 4, 5]))
    assert start is not None and held(start.cache) == [1, 2, 3]
    assert caches.start(read([7, 7])) is None


def test_what_another_cache_holds_is_not_kept_twice() -> None:
    caches = Caches(ROOMY)
    for ids in ([1, 2], [1, 2, 3], [1, 2, 3], [1]):
        caches.keep(read(ids), cache_of(ids))
    assert len(caches) == 1 and caches.nbytes == 3 * TOKEN_BYTES


def test_an_answer_ended_within_a_step_is_kept_as_far_as_all_layers_go() -> None:
    """The first layer has a token more, and of the second only its keys."""
    cache = cache_of([1, 2])
    grow(cache, [3], layers=1)
    half: list[torch.Tensor] = [cache.layers[1].keys, cache.layers[1].keys[..., :1, :]]
    cache.layers[1].keys = torch.cat(half, dim=-2)
    caches = Caches(ROOMY)
    caches.keep(read([1, 2, 3]), cache)
    assert caches.nbytes == 2 * TOKEN_BYTES
    start = caches.start(read([1, 2, 3]))
    assert start is not None and held(start.cache) == [1, 2]


def test_an_answer_ended_before_all_layers_were_reached_is_not_kept() -> None:
    caches = Caches(ROOMY)
    config = Qwen2Config(num_hidden_layers=LAYERS)
    untouched, begun = DynamicCache(config=config), DynamicCache(config=config)
    grow(begun, [1, 2], layers=2)
    barely = DynamicCache(config=config)
    barely.layers[0].lazy_initialization(torch.ones(1), torch.ones(1))
    for cache in (untouched, begun, barely, DynamicCache()):
        assert even(cache) == 0
        caches.keep(read([1, 2]), cache)
    assert len(caches) == 0


def test_tokens_that_nobody_can_name_are_not_kept() -> None:
    caches = Caches(ROOMY)
    caches.keep(read([1, 2]), cache_of([1, 2, 3]))
    start = caches.start(read([1, 2, 3]))
    assert start is not None and held(start.cache) == [1, 2]


def test_the_least_recently_used_cache_leaves_first() -> None:
    caches = Caches(6 * TOKEN_BYTES)
    for first in (1, 2, 3):
        caches.keep(read([first, 5]), cache_of([first, 5]))
    assert caches.start(read([1, 6])) is not None  # branches off the oldest
    caches.keep(read([4, 5]), cache_of([4, 5]))
    assert caches.nbytes == 6 * TOKEN_BYTES
    found = [caches.start(read([first, 5, 6])) is not None for first in (1, 2, 3, 4)]
    assert found == [True, False, True, True]


def test_a_cache_larger_than_the_memory_is_not_kept() -> None:
    caches = Caches(2 * TOKEN_BYTES)
    caches.keep(read([1, 2, 3]), cache_of([1, 2, 3]))
    assert len(caches) == 0 and not caches.free_oldest()


def test_a_cropped_cache_frees_what_it_gave_up() -> None:
    cache = cache_of(range(100))
    crop(cache, 10)
    assert nbytes_of(cache) == 10 * TOKEN_BYTES and held(cache) == [*range(10)]


def test_a_cache_with_a_sliding_window_is_never_kept() -> None:
    """It forgot what a shorter question would need."""
    config = Qwen2Config(
        num_hidden_layers=LAYERS,
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=1,
    )
    cache = DynamicCache(config=config)
    grow(cache, [1, 2, 3])
    assert not croppable(cache) and croppable(cache_of([1]))
    caches = Caches(ROOMY)
    caches.keep(read([1, 2, 3]), cache)
    assert len(caches) == 0
