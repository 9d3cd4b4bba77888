"""Thousands of odd requests: none brings a 500, errors have their form, the door answers on."""

import json
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from backend.local.engine import LocalEngine
from tests.door.conftest import HELLO, WAIT_S, Served, files_in, serving
from tests.door.real import bundled
from tests.door.requests import bodies
from tests.fakes import FakeEngine
from tests.waiting import wait_until

__all__ = ["bundled"]
MANY, FEW = 2000, 60
WITHOUT_HURRY = {
    "deadline": None,
    "derandomize": True,  # what fails here fails for everybody
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="module")
def scripted() -> Iterator[Served]:
    with serving(FakeEngine()) as served:
        yield served


@pytest.fixture(scope="module")
def seen() -> Iterator[Counter[int]]:
    """How often each status came."""
    yield Counter()


def post(served: Served, web: httpx.Client, body: bytes) -> int:
    """The status of the answer, whose form is that of its status."""
    headers = {"content-type": "application/json"}
    answer = web.post(f"{served.url}/v1/chat/completions", content=body, headers=headers)
    if answer.status_code == 200:
        if answer.headers["content-type"].startswith("text/event-stream"):
            *events, end, _ = answer.text.split("\n\n")
            assert end == "data: [DONE]" and all(json.loads(event[6:]) for event in events)
        else:
            assert answer.json()["choices"]
    else:
        assert answer.json()["error"]["message"]
    return answer.status_code


@settings(max_examples=MANY, **WITHOUT_HURRY)
@given(body=bodies("fake"))
def test_no_request_breaks_the_door(
    body: bytes, scripted: Served, seen: Counter[int], web: httpx.Client
) -> None:
    status = post(scripted, web, body)
    seen[status] += 1
    assert status in (200, 400, 404)


def test_of_these_many_were_answered_and_many_refused(scripted: Served, seen: Counter[int]) -> None:
    assert seen.total() >= MANY
    assert min(seen[200], seen[400]) > MANY / 10, seen
    assert scripted.ask().json()["choices"][0]["message"]["content"] == "An answer."
    wait_until(lambda: not files_in(scripted.door))


@settings(max_examples=FEW, **WITHOUT_HURRY)
@given(body=bodies("bundled", most_tokens=6))
def test_no_request_breaks_the_engine(
    body: bytes, bundled: Served, seen: Counter[int], web: httpx.Client
) -> None:
    assert isinstance(bundled.engine, LocalEngine)
    status = post(bundled, web, body)
    assert status in (200, 400, 404)
    seen["real", status] += 1


def test_and_it_answers_afterwards(bundled: Served, seen: Counter[int]) -> None:
    real = {key[1]: count for key, count in seen.items() if isinstance(key, tuple)}
    assert sum(real.values()) >= 50 and min(real[200], real[400]) >= 5, real
    answer = bundled.client.chat.completions.create(model="bundled", messages=HELLO)
    assert answer.choices[0].message.content
    wait_until(lambda: not files_in(bundled.door))


@pytest.fixture(scope="module")
def web() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=WAIT_S) as client:
        yield client
