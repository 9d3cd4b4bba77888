"""Stand-ins for the slow or scarce parts around the engine: a scripted model and instant files."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from backend.checkpoint.facts import read_facts
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.checkpoint.tokenizer import read_tokens
from backend.conversation import Attachment, Conversation, End, Kind, Request, Sampling, Turn
from backend.errors import EngineError
from backend.local.engine import LocalEngine
from backend.local.memory.ahead import Interest
from backend.local.preparation import Cut, Prepared
from backend.local.stopping import Stopped
from backend.local.waiting import Manner
from backend.local.worker import Batching, Ended
from backend.prompt.compose import Composer
from backend.settings import Settings
from backend.stream import AnswerStream

WAIT_S = 20  # for things that must happen; long, since machines may be busy


class ScriptedModel:
    """Echoes the question, one character per token, unless told to wait or to fail.

    `gate` holds every answer back before its first token; `fail` gets the number of tokens
    written so far (`None` while reading) and may raise.
    """

    device = "cpu"
    precision = "float32"
    attention = "sdpa"
    batching = Batching()

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.answered: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.recovered = 0
        self.was_short = False
        self.seen_ahead: list[bytes] = []
        self.threads: set[str] = set()
        self.fail: Callable[[int | None], None] = lambda written: None
        self._counting = threading.Lock()

    def answer(
        self,
        prepared: Prepared,
        stream: AnswerStream,
        between: Callable[[], None] = lambda: None,
    ) -> End:
        self.threads.add(threading.current_thread().name)
        self._count(1)
        try:
            stream.begin(prepared.prompt.budget.total, prepared.prompt.visual_tokens)
            return self._answer(stream)
        finally:
            self._count(-1)

    def kept_of(self, prepared: Prepared) -> int:
        return 0

    def look_ahead(self, cut: Cut, interest: Interest) -> Iterator[None]:
        self.fail(None)
        for _ in cut.tiles:
            if interest.wanted:
                self.seen_ahead.append(cut.key)
                yield

    def recover(self, short: bool) -> None:
        self.recovered += 1
        self.was_short = short

    def _count(self, change: int) -> None:
        with self._counting:
            self.at_once += change
            self.most_at_once = max(self.most_at_once, self.at_once)

    def _answer(self, stream: AnswerStream) -> End:
        question = stream.request.conversation.turns[-1].question
        self.fail(None)
        while not self.gate.wait(0.005):
            if stream.closed:
                raise Stopped
        for number, character in enumerate(question):
            if stream.closed:
                raise Stopped
            self.fail(number)
            stream.write(character, [number])
        self.answered.append(question)
        return End.EOS


class HeldBatch:
    """Lets requests in and answers them once its gate is open; `fail` may raise in a step."""

    places = 2

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.steps = 0
        self.fail: Callable[[], None] = lambda: None
        self.outcome: End | EngineError = End.EOS
        self._running: list[AnswerStream] = []

    def __len__(self) -> int:
        return len(self._running)

    def judge(self, prepared: Prepared, request: Request) -> Manner:
        return Manner.TOGETHER

    def kept_of(self, prepared: Prepared) -> int:
        return 0

    def join(self, prepared: Prepared, stream: AnswerStream) -> None:
        self._running.append(stream)

    def step(self) -> list[Ended]:
        self.steps += 1
        time.sleep(0.001)
        if not self.gate.is_set():
            return []
        self.fail()
        ended = [Ended(stream, self.outcome) for stream in self._running]
        self._running.clear()
        return ended


class InstantMedia:
    """Files without contents: each image is one black tile. `gate` holds every look back."""

    def __init__(self, tile: int) -> None:
        self.tile = tile
        self.gate = threading.Event()
        self.gate.set()
        self.looked = threading.Event()

    def look(self, file: Attachment, stopped: Callable[[], bool] = lambda: False) -> Any:
        self.looked.set()
        while not self.gate.wait(0.005):
            if stopped():
                raise InterruptedError
        return SimpleNamespace(blocks=(1,))

    def key(self, file: Attachment, stopped: Callable[[], bool] = lambda: False) -> bytes:
        return file.path.encode()

    def tiles(self, file: Attachment, stopped: Callable[[], bool] = lambda: False) -> Any:
        return np.zeros((1, self.tile, self.tile, 3), np.uint8)


def instant_composer(folder: Path = BUNDLED_FOLDER, media: Any = None) -> Composer:
    """The composer of a checkpoint, with stand-ins for files."""
    facts = read_facts(folder)
    return Composer(facts, read_tokens(folder), media or InstantMedia(facts.tile))


def scripted_engine(
    model: ScriptedModel, max_queue: int = 16, composer: Composer | None = None
) -> LocalEngine:
    """An engine around a scripted model, already started."""
    ready = composer or instant_composer()
    engine = LocalEngine(Settings(max_queue=max_queue), lambda *_: model, lambda settings: ready)
    engine.start()
    return engine


def ask(question: str, session: str = "", images: int = 0, **sampling: Any) -> Request:
    """A request of one turn."""
    files = tuple(Attachment(f"{n}.png", Kind.IMAGE, f"{n}.png") for n in range(images))
    turn = Turn(question, files)
    return Request(Conversation((turn,)), Sampling(**sampling), session)
