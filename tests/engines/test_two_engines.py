"""Two real engines, one killed in mid-stream under eight conversations: none lost, all go on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.conversation import Answer, Conversation, Request, Sampling, Turn
from backend.errors import BrokenOff
from backend.remote.engine import RemoteEngine
from backend.stream import AnswerStream
from tests.engines.conftest import Connect
from tests.engines.running import Llama, running_llama
from tests.waiting import wait_until

TALKS = 8
LONG = Sampling(max_new_tokens=2_000)
SHORT = Sampling(max_new_tokens=8)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Llama, Llama]]:
    chosen = {"context": 4096, "slots": TALKS, "endless": True}
    with (
        running_llama(tmp_path / "one", "endless", **chosen) as one,
        running_llama(tmp_path / "two", "endless", **chosen) as other,
    ):
        yield one, other


def ask_all(engine: RemoteEngine, talks: list[Conversation], how: Sampling) -> list[AnswerStream]:
    return [engine.stream(Request(talk, how, f"tab {number}")) for number, talk in enumerate(talks)]


def finish(stream: AnswerStream) -> tuple[str, Exception | None]:
    text = ""
    try:
        for piece in stream:
            text += piece
    except BrokenOff as error:
        return text, error
    return text, None


def share_of_hits(streams: list[AnswerStream]) -> float:
    costs = [stream.statistics for stream in streams]
    read = sum(cost.prompt_tokens for cost in costs if cost)
    return sum(cost.cached_tokens for cost in costs if cost) / read


def test_one_is_killed_under_eight_conversations(
    two: tuple[Llama, Llama], connect: Connect
) -> None:
    engine = connect(*(llama.url for llama in two))
    wait_until(lambda: engine.status().device.startswith("2 of 2"))
    talks = [Conversation((Turn(f"Tell me story {number}. " * 20),)) for number in range(TALKS)]
    for _ in range(2):  # two turns, so that there is something to keep
        streams = ask_all(engine, talks, SHORT)
        answers = [Answer("".join(stream)) for stream in streams]
        before = share_of_hits(streams)
        talks = [
            talk.answered(answer).asked(Turn("Go on."))
            for talk, answer in zip(talks, answers, strict=True)
        ]
    streams = ask_all(engine, talks, LONG)
    for stream in streams:
        assert stream.take(60)
    victim = max(two, key=lambda llama: llama.busy)
    hit = victim.busy
    assert hit > 0
    victim.process.kill()
    with ThreadPoolExecutor(TALKS) as readers:
        ended = list(readers.map(finish, streams))
    assert sum(error is not None for _, error in ended) == hit
    assert all(text for text, _ in ended)
    again = ask_all(engine, talks, SHORT)  # Retry, all eight, on the one that is left
    assert all("".join(stream) for stream in again)
    after = share_of_hits(again)
    later = ask_all(engine, talks, SHORT)
    assert all("".join(stream) for stream in later)
    assert engine.status().device.startswith("1 of 2")
    print(
        f"\n{hit} of {TALKS} broke off, 0 lost; prefix hits {before:.0%} before the kill, "
        f"{after:.0%} at the first question after it, {share_of_hits(later):.0%} at the next"
    )
    assert before > 0.5 and share_of_hits(later) > 0.5
