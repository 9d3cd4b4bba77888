"""What a model that keeps caches answers is, token for token, what one that keeps nothing does."""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from backend.conversation import Answer, Conversation, Request, Sampling, Turn
from backend.local.model import LocalModel
from backend.local.preparation import prepare
from backend.local.stopping import Stopped
from backend.prompt.compose import Composer
from backend.stream import AnswerStream
from tests.backend.local.memory.test_host import FarHost
from tests.backend.local.memory.tiny import draw_files, tiny_composer, tiny_network

WORDS = ("what", "who", "tell me more", "red", "count them", "Ωμέγα", "why?", "again 🙂")
SEEDS = 20  # each with three people, who go on, branch off and begin anew: some 300 conversations
GREEDY = Sampling(max_new_tokens=5)
CHOICES = (
    *(GREEDY,) * 5,
    Sampling(temperature=1.5, seed=3, max_new_tokens=5),
    Sampling(repetition_penalty=1.7, max_new_tokens=8),
    Sampling(max_new_tokens=1),
)


class Mishap(RuntimeError):
    """Injected into a layer."""


class Trap:
    """Does something at a chosen step of the work on the network, once."""

    def __init__(self, network: Any) -> None:
        self._left = -1
        self._act: Callable[[], None] = bool
        layers = network.model.language_model.layers
        # Before a layer, and within one, when its keys and values are there already.
        for module in (
            *network.model.vision_tower.encoder.layer,
            *layers,
            *(layer.self_attn.o_proj for layer in layers),
        ):
            module.register_forward_pre_hook(self._step)

    def set(self, steps: int, act: Callable[[], None]) -> None:
        self._left, self._act = steps, act

    def _step(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


@dataclass(frozen=True)
class Place:
    """A cold and some warm models on one network."""

    composer: Composer
    cold: LocalModel
    warm: tuple[LocalModel, ...]
    trap: Trap


@pytest.fixture(scope="module")
def place() -> Place:
    torch.set_num_threads(1)
    composer = tiny_composer()
    network = tiny_network(composer)
    facts = replace(composer.facts, eos_token_ids=tuple(range(0, 1500, 25)))

    def model(kept_bytes: int, host_bytes: int = 0) -> LocalModel:
        made = LocalModel(network, facts, composer.tokens, kept_bytes=kept_bytes)
        made.caches._host = FarHost(host_bytes)
        return made

    # A token has 384 bytes of keys and values, and a conversation some two hundred tokens.
    budgets = ((1 << 30, 0), (400_000, 0), (100_000, 0), (100_000, 300_000))
    return Place(composer, model(0), tuple(model(*kept) for kept in budgets), Trap(network))


def run(place: Place, model: LocalModel, request: Request) -> AnswerStream:
    stream = AnswerStream(request)
    stream.finish(model.answer(prepare(place.composer, stream), stream))
    return stream


def disturb(place: Place, model: LocalModel, request: Request, chance: random.Random) -> None:
    """Stop, break or starve an answer at some step; what came before it must be right."""
    act = chance.choice(["stop", "stop", "break", "starve"])
    whole = run(place, place.cold, request).token_ids
    stream = AnswerStream(request)

    def fail() -> None:
        if act == "stop":
            stream.close()
        else:
            raise Mishap if act == "break" else torch.OutOfMemoryError("out of memory")

    prepared = prepare(place.composer, stream)
    place.trap.set(chance.choice([1, 2, 3, 5, 8, 9, 12, 20, 30]), fail)
    with suppress(Stopped, Mishap, torch.OutOfMemoryError):
        model.answer(prepared, stream)
    place.trap.set(-1, bool)
    assert whole[: len(stream.token_ids)] == stream.token_ids


class Person:
    """Chats at random: follows up, asks again, edits, goes back to something said long ago."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.said: list[Conversation] = []
        self.system = self.chance.choice([None, None, "Be brief."])

    def ask(self) -> Conversation:
        chance = self.chance
        if not self.said or chance.random() < 0.15:
            return self._turn(Conversation(system=self.system))
        latest, any_ = self.said[-1], chance.choice(self.said)
        kind = chance.random()
        if kind < 0.5:
            return self._turn(latest)
        if kind < 0.65:
            return latest.unanswered()
        if kind < 0.8:
            return self._turn(latest.without_last())
        return self._turn(any_)

    def hear(self, asked: Conversation, stream: AnswerStream) -> None:
        """Mostly with ids; an answer that came from elsewhere has none."""
        text = "".join(stream)
        ids = stream.token_ids if self.chance.random() < 0.8 else ()
        self.said.append(asked.answered(Answer(text, ids)))

    def _turn(self, before: Conversation) -> Conversation:
        words = " ".join(self.chance.choices(WORDS, k=self.chance.randint(1, 4)))
        return before.asked(Turn(words, draw_files(self.chance), self.chance.random() < 0.3))


def draw(people: list[Person], chance: random.Random) -> tuple[Person, Request]:
    """Somebody, and what they ask next."""
    person = chance.choice(people)
    return person, Request(person.ask(), chance.choice(CHOICES))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_warm_answers_are_those_of_a_cold_model(place: Place, seed: int) -> None:
    """People in turns, through models with room for all, for some, and for hardly one cache.

    The last one's host takes what leaves, where it must not be gone on from.
    """
    chance = random.Random(seed)
    people = [Person(seed * 10 + number) for number in range(3)]
    model = place.warm[seed % len(place.warm)]
    for _ in range(16):
        person, request = draw(people, chance)
        if chance.random() < 0.25:
            disturb(place, model, request, chance)
        cold, warm = run(place, place.cold, request), run(place, model, request)
        assert warm.token_ids == cold.token_ids
        person.hear(request.conversation, warm)
