"""What is seen of one engine, as figures: `python -m tests.engines.look_closely URL [--wait S]`.

For engines that are too heavy for every test run. It asks what the tests ask of llama.cpp; the
engine must serve the bundled checkpoint as "bundled". Prints a line each; the exit status is 1 if
one of them is not as it should be.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import httpx

from backend.conversation import Answer, Conversation, Request, Sampling, Turn
from backend.engine import State
from backend.media.recognise import attach
from backend.remote.engine import RemoteEngine
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.engines.conftest import EXAMPLES

PICTURE, OTHER, FILM = (
    attach(str(EXAMPLES / name)) for name in ("night.png", "sky-one.png", "gliding-star.mp4")
)
TURNS = (
    Turn("How many shapes are there?", (PICTURE,)),
    Turn("And in Image-2?", (OTHER,)),
    Turn("What moves?", (FILM,)),
    Turn("Thank you."),
)
Seen = tuple[str, str, bool]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--wait", type=float, default=10.0, help="seconds for it to start")
    chosen = parser.parse_args(words)
    engine = RemoteEngine(Settings(engines=(chosen.url,)))
    engine.start()
    began = time.monotonic()
    wait_for(lambda: engine.status().state is State.READY, chosen.wait)
    fine = True
    print(f"ready after {time.monotonic() - began:.0f} s: {engine.status().device}", flush=True)
    for what, seen, good in look(engine, chosen.url):
        print(f"{'ok ' if good else 'NOT'} {what}: {seen}", flush=True)
        fine &= good
    engine.close()
    return 0 if fine else 1


def look(engine: RemoteEngine, url: str) -> Iterator[Seen]:
    """One thing after the other."""
    yield from converse(engine)
    yield stop(engine, url)
    yield seed(engine)


def converse(engine: RemoteEngine) -> Iterator[Seen]:
    """Four turns with two pictures and a video, counted beside the budget."""
    assert engine.composer is not None
    talk = Conversation()
    for number, turn in enumerate(TURNS, start=1):
        talk = talk.asked(turn)
        foreseen = engine.composer.measure(talk)
        stream = engine.stream(Request(talk, Sampling(max_new_tokens=40), "one"))
        text = "".join(stream)
        cost = stream.statistics
        assert cost is not None
        talk = talk.answered(Answer(text))
        told = f"{cost.prompt_tokens} tokens read, {foreseen.total} foreseen, "
        told += f"{cost.cached_tokens} of them kept, first word {cost.ttft_s:.2f} s: {text!r}"
        yield f"turn {number}", told, bool(text) and cost.prompt_tokens == foreseen.total


def stop(engine: RemoteEngine, url: str) -> Seen:
    """Stop in mid-answer, by the engine's own figure of running requests if it has one."""
    talk = Conversation((Turn("Go on for ever."),))
    streams = [
        engine.stream(Request(talk, Sampling(temperature=2, max_new_tokens=1900), f"{number}"))
        for number in range(4)
    ]
    for stream in streams:
        stream.take(60)
    before = running(url)
    for stream in streams:
        stream.close()
    began = time.monotonic()
    ended = wait_for(lambda: running(url) in (0, None), 30)
    told = f"{before} ran, {running(url)} after {time.monotonic() - began:.2f} s"
    return "four stopped", told, ended and all(map(ended_early, streams))


def ended_early(stream: AnswerStream) -> bool:
    cost = stream.statistics
    return cost is not None and cost.new_tokens < 1900


def running(url: str) -> int | None:
    """Requests that the engine says are at work; `None` where it does not say."""
    answer = httpx.get(url.removesuffix("/v1") + "/metrics", trust_env=False)
    lines = [line for line in answer.text.splitlines() if "num_requests_running" in line]
    counts = [float(line.split()[-1]) for line in lines if not line.startswith("#")]
    return int(sum(counts)) if counts else None


def seed(engine: RemoteEngine) -> Seen:
    talk = Conversation((Turn("Say something."),))
    told = []
    for number in (7, 7, 8):
        sampling = Sampling(temperature=2, seed=number, max_new_tokens=30)
        told.append("".join(engine.stream(Request(talk, sampling))))
    return "the same seed twice", "equal" if told[0] == told[1] else "not equal", True


def wait_for(happened: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
