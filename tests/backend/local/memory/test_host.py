"""Caches that leave the device wait in the host's memory, and come back as they were."""

from typing import Any

import pytest
import torch

from backend.errors import BadSetting
from backend.local.memory.caches import Caches
from backend.local.memory.host import HOST, Host
from backend.local.memory.room import host_bytes
from backend.planner.devices import GB
from backend.planner.plan import Strategy
from tests.backend.local.memory.test_caches import TOKEN_BYTES, cache_of, grow, held, read
from tests.backend.planner.test_turn import plan_of


class FarHost(Host):
    """A host in whose memory a tensor is not what it is on the device."""

    def take(self, cache: Any) -> Any:
        far = super().take(cache)
        for layer in far.layers:
            layer.keys, layer.values = layer.keys + 1000, layer.values - 1000
        return far

    def give_back(self, cache: Any) -> Any:
        near = super().give_back(cache)
        for layer in near.layers:
            layer.keys, layer.values = layer.keys - 1000, layer.values + 1000
        return near


def keep(caches: Caches, *kept: list[int]) -> None:
    for ids in kept:
        caches.keep(read(ids), cache_of(ids))


def test_a_cache_that_must_leave_goes_on_from_the_host() -> None:
    caches = Caches(2 * TOKEN_BYTES, FarHost(8 * TOKEN_BYTES))
    keep(caches, [1, 2], [3, 4])
    assert (caches.nbytes, caches.nbytes_away) == (2 * TOKEN_BYTES, 2 * TOKEN_BYTES)
    found = caches.start(read([1, 2, 5]))
    assert found is not None and found.away and found.tokens == 2
    start = caches.fetch(found)
    assert held(start.cache) == [1, 2] and not start.away
    assert caches.nbytes_away == 0
    grow(start.cache, [5, 6])
    assert held(start.cache) == [1, 2, 5, 6]


def test_a_branch_brings_back_what_it_shares_and_the_rest_stays() -> None:
    caches = Caches(0, FarHost(8 * TOKEN_BYTES))
    keep(caches, [1, 2, 3, 4])
    found = caches.start(read([1, 2, 9]))
    assert found is not None
    assert held(caches.fetch(found).cache) == [1, 2]
    again = caches.start(read([1, 2, 3, 4, 5]))
    assert again is not None and held(caches.fetch(again).cache) == [1, 2, 3, 4]


def test_the_host_s_memory_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    caches = Caches(0, FarHost(4 * TOKEN_BYTES))
    keep(caches, [1, 2], [3, 4], [5, 6], [7, 8, 9, 10, 11])
    assert caches.nbytes == 0 and caches.nbytes_away == 4 * TOKEN_BYTES
    found = [caches.start(read([first, first + 1, 0])) is not None for first in (1, 3, 5, 7)]
    assert found == [False, True, True, False]
    assert not caches.free_oldest()


def test_a_question_s_room_is_made_by_leaving_the_device() -> None:
    caches = Caches(8 * TOKEN_BYTES, FarHost(8 * TOKEN_BYTES))
    keep(caches, [1, 2], [3, 4])
    assert caches.free_oldest() and caches.nbytes == 2 * TOKEN_BYTES == caches.nbytes_away
    assert caches.free_oldest() and caches.nbytes == 0 and len(caches) == 2
    assert not caches.free_oldest()


def test_each_layer_comes_back_to_the_device_that_it_was_on() -> None:
    """Two GPUs of a spread model, told apart by what is asked of them."""
    asked: list[tuple[str, torch.device]] = []

    class Spy(Host):
        def send(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
            asked.append((str(tensor.device), device))
            return tensor

    cache: Any = cache_of([1, 2])
    for number, layer in enumerate(cache.layers):
        layer.device = torch.device("cuda", number)
    host = Spy(GB)
    away = host.take(cache)
    assert {device for _, device in asked} == {HOST}
    asked.clear()
    host.give_back(away)
    assert [device.index for _, device in asked] == [0, 0, 1, 1, 2, 2]


def test_a_person_says_how_much_where_there_is_a_gpu() -> None:
    assert host_bytes(1.5, plan_of("8B", 24)) == 1.5 * GB
    assert host_bytes(0, plan_of("1B", strategy=Strategy.CPU)) == 0
    with pytest.raises(BadSetting, match="NVIDIA"):
        host_bytes(1, plan_of("1B", strategy=Strategy.CPU))
