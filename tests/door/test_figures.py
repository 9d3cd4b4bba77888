"""The figures: read by Prometheus' own parser, of page and programs alike."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backend.conversation import Conversation, Request, Turn
from backend.engine import State
from backend.errors import EngineFailed
from door.counts import BOUNDS_S
from tests.door.conftest import HELLO, Served


def figures(served: Served) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    answer = served.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation and family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            key = (sample.name, *sample.labels.values())
            assert key not in found
            found[key] = sample.value
    return found


def ask_on_page(served: Served) -> Any:
    return served.door.engine.stream(Request(Conversation((Turn("Hello"),))))


def test_answers_tokens_and_waits_are_counted_by_where_they_were_asked(served: Served) -> None:
    served.engine.enqueue(["a", "b", "c"])
    served.ask()
    list(ask_on_page(served))
    now = figures(served)
    assert now["chat_requests_total", "door", "eos"] == 1
    assert now["chat_requests_total", "page", "eos"] == 1
    assert now["chat_tokens_total", "door", "new"] == 3
    assert now["chat_tokens_total", "door", "prompt"] == 60
    assert now["chat_tokens_total", "door", "cached"] == 0
    assert now["chat_first_token_seconds_count", "door"] == 1
    assert now["chat_first_token_seconds_bucket", "door", "+Inf"] == 1
    assert now["chat_first_token_seconds_sum", "door"] > 0
    assert now["chat_requests_open",] == 0


def test_every_wait_lies_in_one_bucket_and_in_all_above(served: Served) -> None:
    served.engine.enqueue([0.15, "late"])
    served.ask()
    now = figures(served)
    buckets = [now["chat_first_token_seconds_bucket", "door", f"{bound}"] for bound in BOUNDS_S]
    assert buckets == sorted(buckets) and buckets[:2] == [0, 0] and buckets[-1] == 1


@pytest.mark.parametrize("end", ["failed", "stopped"])
def test_each_end_is_counted_once(end: str, served: Served) -> None:
    served.engine.enqueue([EngineFailed("It broke.", "Again.")] if end == "failed" else [600.0])
    stream = ask_on_page(served)
    assert figures(served)["chat_requests_open",] == 1
    if end == "failed":
        with pytest.raises(EngineFailed):
            stream.take(30)
    for _ in range(2):
        stream.close()
    now = figures(served)
    assert now["chat_requests_total", "page", end] == 1 and now["chat_requests_open",] == 0


def test_responses_are_counted_by_status(served: Served) -> None:
    served.ask()
    served.ask(temperature="hot")
    served.post(json={"model": "none", "messages": HELLO})
    now = figures(served)
    assert [now["chat_responses_total", status] for status in ("200", "400", "404")] == [1, 1, 1]


def test_the_model_and_the_queue_are_shown(served: Served) -> None:
    assert figures(served)["chat_model_ready",] == 1
    served.engine.become(State.LOADING, share=0.5)
    now = figures(served)
    assert (now["chat_model_ready",], now["chat_model_load_share",]) == (0, 0.5)
    assert now["chat_requests_waiting",] == 0
