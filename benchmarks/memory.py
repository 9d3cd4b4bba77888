"""Memory over many requests: what the process holds after them, against before.

Questions differ, pictures come again, some answers are stopped; what may be kept for later
questions is small and full before counting begins, so that growth would be a leak and no memory.
"""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from backend.conversation import Answer, Attachment, Conversation, Request, Sampling, Turn
from backend.local.devices import resident_bytes
from backend.local.engine import LocalEngine
from backend.media.recognise import attach
from backend.settings import Settings
from benchmarks.material import make_photograph
from benchmarks.measurement import Measurement, Pair, at_most, ours_of, rival_of, share_of
from benchmarks.sizing import wait_until_ready

REQUESTS, QUICK_REQUESTS = 200, 60
WARMING = 40  # requests until everything that may be kept is there
KEPT_GB = 0.01
PICTURES = 6
ANSWER = 16  # tokens
STOPPED = 0.2  # of the answers
MOST_TURNS = 4
MB = 1 << 20


def measure(quick: bool) -> Iterator[Measurement]:
    """One figure: resident memory after the requests, as a multiple of that before."""
    requests = QUICK_REQUESTS if quick else REQUESTS
    with tempfile.TemporaryDirectory() as folder:
        people = People(Path(folder))
        try:
            people.ask(WARMING)
            before = resident_bytes()
            people.ask(requests)
            after = resident_bytes()
        finally:
            people.engine.close()
    pairs = [Pair(after, before)]
    ratio = share_of(pairs)
    yield Measurement(
        f"Resident memory after {requests} requests, rival: before them",
        "MB",
        ours_of(pairs, 1 / MB),
        rival_of(pairs, 1 / MB),
        ratio,
        at_most(ratio.median, 1.05),
    )


class People:
    """Ask the bundled checkpoint at random, the same way every time."""

    def __init__(self, folder: Path) -> None:
        self._random = random.Random(0)
        self._files = [
            attach(str(make_photograph(folder / f"{number}.jpg", 640, 480, number)), max_tiles=6)
            for number in range(PICTURES)
        ]
        self._chat = Conversation()
        self.engine = LocalEngine(Settings(cache_gb=KEPT_GB))
        self.engine.start()
        wait_until_ready(self.engine)

    def ask(self, requests: int) -> None:
        """So many questions one after another, in conversations of some turns."""
        for number in range(requests):
            if len(self._chat.turns) >= MOST_TURNS or self._random.random() < 0.3:
                self._chat = Conversation()
            turn = Turn(f"What is there, for the {number}th time?", self._draw_files())
            self._chat = self._answer(self._chat.asked(turn))

    def _draw_files(self) -> tuple[Attachment, ...]:
        return tuple(self._random.sample(self._files, self._random.choice([0, 1, 1, 2])))

    def _answer(self, asked: Conversation) -> Conversation:
        stream = self.engine.stream(Request(asked, Sampling(max_new_tokens=ANSWER), "one"))
        if self._random.random() < STOPPED:
            stream.take(None)
            stream.close()
        text = "".join(stream)
        return asked.answered(Answer(text, stream.token_ids))
