"""A crowd to try a batch with: random conversations, and what each is answered when alone."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from backend.checkpoint.facts import read_facts
from backend.checkpoint.tokenizer import read_tokens
from backend.conversation import (
    Answer,
    Attachment,
    Conversation,
    End,
    Kind,
    Request,
    Sampling,
    Turn,
)
from backend.local.decoding import ByteTable
from backend.local.load import load_network, spare_a_core
from backend.local.memory.caches import Caches
from backend.local.model import LocalModel
from backend.local.placement import Placement
from backend.local.preparation import prepare
from backend.local.together.batch import Batch, Loaded
from backend.local.together.size import Size
from backend.local.waiting import Manner
from backend.prompt.compose import Composer
from backend.stream import AnswerStream
from tests.backend.local.golden import DrawnMedia

WORDS = ("red", "Hello!", "What do you see?", "how many", "那是什么", "who are you", "left", "🙂")
PICTURES = tuple(
    Attachment(f"{90 + 40 * k},{120 + 25 * k},{k}", Kind.IMAGE, "p", max_tiles=1 + k % 4)
    for k in range(5)
)
VIDEOS = tuple(
    Attachment(";".join(f"90,90,{k}" for k in frames), Kind.VIDEO, "v", frames=len(frames))
    for frames in (range(3), range(2, 6))
)
ROOM = 6  # tokens an answer may have


@dataclass(frozen=True)
class Case:
    """A request, and the tokens and the text that it is answered with when it is alone."""

    request: Request
    ids: tuple[int, ...]
    text: str
    end: End


class Workshop:
    """One network with its ways to answer."""

    def __init__(self, folder: Path) -> None:
        facts = read_facts(folder)
        tokens = read_tokens(folder)
        self.composer: Any = Composer(facts, tokens, DrawnMedia(facts))  # type: ignore[arg-type]
        spare_a_core()
        self.network = load_network(
            folder, facts.layout, tokens, Placement(torch.float32), lambda share: None
        )
        self.facts = facts
        self.model = LocalModel(self.network, facts, tokens)
        self.model.caches = Caches(0)  # every prompt is read from its first token on
        self._table = ByteTable(tokens)

    def open_batch(self, size: Size, kept_bytes: int = 1 << 24, endless: bool = False) -> Batch:
        """A batch of this network; an `endless` one never thinks that it is done."""
        facts = replace(self.facts, eos_token_ids=()) if endless else self.facts
        keeper = LocalModel(self.network, facts, self.composer.tokens, kept_bytes=kept_bytes)
        loaded = Loaded(self.network, facts, self._table, keeper.features, keeper.stopped_by)
        return Batch(loaded, size)

    def answer_alone(self, request: Request) -> Case:
        """By the executor that answers one at a time."""
        stream = AnswerStream(request)
        end = self.model.answer(prepare(self.composer, stream), stream)
        stream.finish(end)
        return Case(request, stream.token_ids, "".join(stream), end)

    def join(self, batch: Batch, request: Request) -> AnswerStream | None:
        """Let a request in if there is room now."""
        stream = AnswerStream(request)
        prepared = prepare(self.composer, stream)
        if batch.judge(prepared, request) is not Manner.TOGETHER:
            return None
        batch.join(prepared, stream)
        return stream


def finish(batch: Batch) -> None:
    """Take steps until everybody is through."""
    while len(batch):
        for ended in batch.step():
            if isinstance(ended.outcome, End):
                ended.stream.finish(ended.outcome)
            else:
                ended.stream.finish(error=ended.outcome)


def talk(workshop: Workshop, count: int, seed: int) -> Iterator[Case]:
    """So many requests of random conversations of one to three turns, of all kinds."""
    chance = random.Random(seed)
    while count > 0:
        conversation = Conversation()
        for _ in range(min(count, chance.choice((1, 1, 2, 3)))):
            conversation = conversation.asked(make_turn(chance))
            case = workshop.answer_alone(
                Request(conversation, Sampling(max_new_tokens=chance.randint(1, ROOM)))
            )
            yield case
            count -= 1
            conversation = conversation.answered(Answer(case.text, case.ids))


def make_turn(chance: random.Random) -> Turn:
    """Text, one to three pictures apart or combined, a video, or both."""
    question = " ".join(chance.choices(WORDS, k=chance.choice((1, 2, 3, 20))))
    kind = chance.choice(("text", "text", "pictures", "pictures", "video", "mixed"))
    pictures = tuple(chance.choices(PICTURES, k=chance.randint(1, 3)))
    files = {
        "text": (),
        "pictures": pictures,
        "video": (chance.choice(VIDEOS),),
        "mixed": (pictures[0], chance.choice(VIDEOS)),
    }[kind]
    return Turn(question, files, combined=kind == "pictures" and chance.random() < 0.3)
