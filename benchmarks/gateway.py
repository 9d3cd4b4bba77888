"""The gateway: what it costs to ask an engine elsewhere through the app's door.

A scripted engine server in a process of its own, the whole app (`--engine`) in another one, and
here the client, which reads several streams at once: through the door and directly, in turn.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from statistics import median

import httpx

from benchmarks.measurement import (
    Goal,
    Measurement,
    Pair,
    at_least,
    ours_of,
    rival_of,
    share_of,
    spread,
)
from benchmarks.paced_server import STEP_S

MANY = 16  # streams
ROUNDS, QUICK_ROUNDS = 12, 2
TOKENS, QUICK_TOKENS = 128, 48
TURNS, QUICK_TURNS = 4, 2  # that each one asks of those who go on
GOING_ON_ROUNDS, QUICK_GOING_ON_ROUNDS = 4, 1
MOST_MORE_MS = 10.0  # to the first token
LEAST_SHARE = 0.97  # of the tokens per second
START_S = 120.0
KEPT_S = 3.0  # that a connection is used again; uvicorn closes it after 5


@dataclass(frozen=True, slots=True)
class Heard:
    """One stream: seconds to its first token, and tokens per second after it."""

    ttft_s: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """Several streams at once: medians over them, through the door and directly."""

    through: Heard
    directly: Heard


def measure(quick: bool) -> Iterator[Measurement]:
    """One stream at a time, sixteen in one moment, and sixteen who go on asking."""
    turns, tokens = (QUICK_TURNS, QUICK_TOKENS) if quick else (TURNS, TOKENS)
    with scripted_engine() as engine, gateway(engine) as door:
        for streams, label in ((1, "one alone"), (MANY, f"{MANY} in one moment")):
            rounds = QUICK_ROUNDS if quick else ROUNDS
            yield from report(asyncio.run(compare(door, engine, streams, rounds, tokens)), label)
        rounds = QUICK_GOING_ON_ROUNDS if quick else GOING_ON_ROUNDS
        heard = asyncio.run(compare(door, engine, MANY, rounds, tokens, turns))
        yield from report(heard, f"{MANY} who ask again as they are answered")


def report(rounds: list[Round], label: str) -> Iterator[Measurement]:
    """The two figures of some rounds."""
    waits = [Pair(one.through.ttft_s, one.directly.ttft_s) for one in rounds]
    speeds = [Pair(one.through.tokens_per_s, one.directly.tokens_per_s) for one in rounds]
    more = spread([(pair.ours - pair.rival) * 1e3 for pair in waits])
    yield Measurement(
        f"through the door, {label}: time to first token, rival: asked directly",
        "ms",
        ours_of(waits, 1e3),
        rival_of(waits, 1e3),
        share_of(waits),
        Goal(f"≤ {MOST_MORE_MS:g} ms more ({more.median:.1f})", more.median <= MOST_MORE_MS),
    )
    ratio = share_of(speeds)
    yield Measurement(
        f"through the door, {label}: tokens per second of each, rival: asked directly",
        "tokens/s",
        ours_of(speeds),
        rival_of(speeds),
        ratio,
        at_least(ratio.median, LEAST_SHARE),
    )


async def compare(
    door: str, engine: str, streams: int, rounds: int, tokens: int, turns: int = 1
) -> list[Round]:
    """Rounds of so many streams, each through the door and directly, the order changing."""
    compared = []
    async with clients(streams) as several:
        for url in (door, engine) * 2:  # the first of a kind is slower
            await hear(several, url, [[2]] * streams)
        for number in range(rounds):
            heard: dict[str, Heard] = {}
            lengths = [[tokens]] * streams if turns == 1 else draw(number, streams, turns, tokens)
            for url in (door, engine) if number % 2 else (engine, door):
                heard[url] = await hear(several, url, lengths)
            compared.append(Round(heard[door], heard[engine]))
    return compared


@asynccontextmanager
async def clients(count: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """So many clients, as of so many people: in one pool of httpcore they would wait for it."""
    tls = httpx.create_ssl_context(trust_env=False)
    limits = httpx.Limits(keepalive_expiry=KEPT_S)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                httpx.AsyncClient(verify=tls, timeout=START_S, limits=limits, trust_env=False)
            )
            for _ in range(count)
        ]


def draw(number: int, streams: int, turns: int, tokens: int) -> list[list[int]]:
    """How long the answers of each are: half to one and a half of `tokens`, so that they part."""
    chance = random.Random(number)
    return [
        [chance.randint(tokens // 2, 3 * tokens // 2) for _ in range(turns)] for _ in range(streams)
    ]


async def hear(
    several: Sequence[httpx.AsyncClient], url: str, lengths: Sequence[Sequence[int]]
) -> Heard:
    """Read streams of so many tokens one by one with each client at once; the medians over all.

    All begin in one moment, connected before. Of who reads several the first does not count.
    """
    listed = await asyncio.gather(*(client.get(f"{url}/models") for client in several))
    model = listed[0].json()["data"][0]["id"]

    async def listen(client: httpx.AsyncClient, turns: Sequence[int]) -> list[Heard]:
        heard = [await _hear_one(client, url, _question(model, tokens)) for tokens in turns]
        return heard[1:] or heard

    each = await asyncio.gather(*map(listen, several, lengths))
    heard = [one for those in each for one in those]
    return Heard(median(one.ttft_s for one in heard), median(one.tokens_per_s for one in heard))


def _question(model: str, tokens: int) -> dict[str, object]:
    messages = [{"role": "user", "content": "Describe it."}]
    return {"model": model, "messages": messages, "max_tokens": tokens, "stream": True}


async def _hear_one(client: httpx.AsyncClient, url: str, asked: dict[str, object]) -> Heard:
    begun = time.perf_counter()
    first_s = last_s = 0.0
    first = words = 0
    async with client.stream("POST", f"{url}/chat/completions", json=asked) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            came = _words_in(line)
            if came:
                last_s = time.perf_counter()
                words += came
                if not first:
                    first, first_s = came, last_s
    if words != asked["max_tokens"]:
        raise AssertionError(f"{words} of {asked['max_tokens']} words came")
    writing_s = last_s - first_s
    return Heard(first_s - begun, (words - first) / writing_s if writing_s else 1 / STEP_S)


def _words_in(line: str) -> int:
    """Tokens in a line of a stream: the script writes a word for each."""
    if not line.startswith("data: {"):
        return 0
    choices = json.loads(line.removeprefix("data: "))["choices"]
    return len((choices[0]["delta"].get("content") or "").split()) if choices else 0


@contextmanager
def scripted_engine() -> Iterator[str]:
    """The scripted server; where its interface is."""
    with _process("-m", "benchmarks.paced_server") as first_line:
        yield f"http://127.0.0.1:{int(first_line)}/v1"


@contextmanager
def gateway(engine: str) -> Iterator[str]:
    """The app in front of `engine`; where its door is."""
    with _process("app.py", "--port", "0", "--engine", engine) as first_line:
        url = first_line.split()[-1].rstrip("/")
        until = time.monotonic() + START_S
        while httpx.get(f"{url}/ready").status_code != httpx.codes.OK:
            if time.monotonic() > until:
                raise RuntimeError("The app found no engine.")
            time.sleep(0.2)
        yield f"{url}/v1"


@contextmanager
def _process(*words: str) -> Iterator[str]:
    """A process of this project; the first line that it prints."""
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.terminate()
