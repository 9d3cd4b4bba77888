"""The gateway's measurement: what is counted, and the whole way once."""

import asyncio

import pytest

from benchmarks import gateway
from benchmarks.gateway import Heard, Round, clients, compare, hear, report, scripted_engine
from benchmarks.paced_server import FIRST_S, STEP_S


def rounds(more_s: float, share: float) -> list[Round]:
    return [Round(Heard(0.1 + more_s, 50 * share), Heard(0.1, 50))] * 3


@pytest.mark.parametrize(
    ("more_s", "share", "kept"),
    [(0.009, 0.98, [True, True]), (0.011, 0.98, [False, True]), (0.009, 0.96, [True, False])],
)
def test_the_goals_are_those_of_the_issue(more_s: float, share: float, kept: list[bool]) -> None:
    measured = list(report(rounds(more_s, share), "all"))
    assert [one.goal.holds for one in measured if one.goal] == kept
    assert measured[1].ratio and measured[1].ratio.median == pytest.approx(share)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('data: {"choices": [{"delta": {"content": "word1 word2 "}}]}', 2),
        ('data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}', 0),
        ('data: {"choices": [{"delta": {}}]}', 0),
        ('data: {"choices": [], "usage": {}}', 0),
        ("data: [DONE]", 0),
        (": still here", 0),
    ],
)
def test_tokens_are_counted_however_they_are_joined(line: str, words: int) -> None:
    assert gateway._words_in(line) == words


async def _hear(url: str, lengths: list[list[int]]) -> Heard:
    async with clients(len(lengths)) as several:
        return await hear(several, url, lengths)


def test_the_scripted_engine_keeps_its_pace() -> None:
    with scripted_engine() as engine:
        heard = asyncio.run(_hear(engine, [[8]] * 2))
    assert heard.ttft_s >= FIRST_S and heard.tokens_per_s > 0
    assert 7 / heard.tokens_per_s > 3 * STEP_S, "words do not come all at once"


def test_every_word_comes_through_the_app_also_of_who_goes_on_asking() -> None:
    with scripted_engine() as engine, gateway.gateway(engine) as door:
        for turns in (1, 3):
            assert len(asyncio.run(compare(door, engine, 3, 2, 5, turns))) == 2


def test_the_first_of_several_answers_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = iter(range(9, 0, -1))

    async def hear_one(_: object, url: str, asked: dict[str, object]) -> Heard:
        return Heard(next(lengths), 1)

    monkeypatch.setattr(gateway, "_hear_one", hear_one)
    with scripted_engine() as engine:
        heard = asyncio.run(_hear(engine, [[1, 1, 1]]))
    assert heard == Heard(7.5, 1)
