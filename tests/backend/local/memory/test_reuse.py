"""Keeping what was read, trap by trap: each of these once gave wrong answers in silence."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from backend.conversation import Answer, Attachment, Conversation, Kind, Request, Sampling, Turn
from backend.errors import OutOfMemory
from backend.local.model import LocalModel
from backend.local.preparation import Prepared, prepare
from backend.local.sampling import configure
from backend.planner.costs import Quantization
from backend.prompt.compose import Composer
from backend.stream import AnswerStream
from tests.backend.local.memory.tiny import EACH, tiny_composer, tiny_network

CAT = Attachment("cat-1x3", Kind.IMAGE, "cat")
DOG = Attachment("dog-1x3", Kind.IMAGE, "dog")
FILM = Attachment("film-5x1", Kind.VIDEO, "film")


@pytest.fixture(scope="module")
def composer() -> Composer:
    return tiny_composer()


@pytest.fixture(scope="module")
def network(composer: Composer) -> Any:
    torch.set_num_threads(1)
    return tiny_network(composer)


@pytest.fixture
def warm(network: Any, composer: Composer) -> LocalModel:
    return LocalModel(network, composer.facts, composer.tokens)


@pytest.fixture(scope="module")
def cold(network: Any, composer: Composer) -> LocalModel:
    return LocalModel(network, composer.facts, composer.tokens, kept_bytes=0)


class Asker:
    """Asks both models and holds them to the same answer."""

    def __init__(self, composer: Composer, warm: LocalModel, cold: LocalModel) -> None:
        self._composer, self._warm, self._cold = composer, warm, cold

    def ask(self, asked: Conversation, **sampling: Any) -> AnswerStream:
        request = Request(asked, Sampling(**{"max_new_tokens": 6} | sampling))
        warm, cold = AnswerStream(request), AnswerStream(request)
        for model, stream in ((self._cold, cold), (self._warm, warm)):
            stream.finish(model.answer(prepare(self._composer, stream), stream))
        assert warm.token_ids == cold.token_ids
        assert cold.statistics is not None and cold.statistics.cached_tokens == 0
        return warm


@pytest.fixture
def asker(composer: Composer, warm: LocalModel, cold: LocalModel) -> Asker:
    return Asker(composer, warm, cold)


def question(words: str, *files: Attachment) -> Conversation:
    return Conversation().asked(Turn(words, files))


def kept_of(stream: AnswerStream) -> int:
    assert stream.statistics is not None
    return stream.statistics.cached_tokens


def unread(stream: AnswerStream) -> int:
    assert stream.statistics is not None
    return stream.statistics.prompt_tokens - stream.statistics.cached_tokens


def heard(asked: Conversation, stream: AnswerStream) -> Conversation:
    return asked.answered(Answer("".join(stream), stream.token_ids))


def test_the_same_question_again_reads_one_token(asker: Asker) -> None:
    """A cache as long as the prompt would have `generate` read all of it twice."""
    first = asker.ask(question("What is it?", CAT))
    again = asker.ask(question("What is it?", CAT))
    assert kept_of(first) == 0 and unread(again) == 1
    assert again.token_ids == first.token_ids


def test_a_later_turn_reads_only_what_is_new(asker: Asker) -> None:
    asked = question("What is it?", CAT, DOG)
    first = asker.ask(asked)
    assert first.statistics is not None
    asked = heard(asked, first).asked(Turn("And now?"))
    assert kept_of(asker.ask(asked)) >= first.statistics.prompt_tokens


def test_pictures_that_were_read_are_not_looked_at_again_though_their_features_are_gone(
    asker: Asker, warm: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = question("What is it?", CAT, DOG)
    asked = heard(asked, asker.ask(asked)).asked(Turn("And now?"))
    warm.features.clear()
    seen: list[int] = []
    encode = warm.features._encode
    monkeypatch.setattr(
        warm.features, "_encode", lambda tiles: (seen.append(len(tiles)), encode(tiles))[1]
    )
    assert kept_of(asker.ask(asked)) > 0 and not seen


def test_pictures_of_equal_size_are_told_apart(asker: Asker) -> None:
    """Their tokens are the same ids."""
    answers = {asker.ask(question("What is it?", file)).token_ids for file in (CAT, DOG)}
    assert len(answers) == 2
    both = asker.ask(question("What is it?", CAT, DOG))
    other = asker.ask(question("What is it?", CAT, CAT))
    assert other.token_ids != both.token_ids


def test_only_features_of_what_was_not_read_go_in(asker: Asker) -> None:
    """All of them together with a cache are refused by the network, or land in wrong places."""
    asked = question("What is it?", CAT)
    for file in (DOG, FILM, CAT):
        asked = heard(asked, asker.ask(asked)).asked(Turn("And this?", (file,)))
    assert unread(asker.ask(asked)) < 100


def test_a_video_read_in_part_is_gone_on_with_at_a_frame(
    asker: Asker, warm: LocalModel, composer: Composer
) -> None:
    asked = question("What moves?", FILM)
    asker.ask(asked)
    (kept,) = warm.caches._kept.values()
    places = (kept.reading.ids == kept.reading.place).nonzero()[0]
    warm.caches.clear()
    within = int(places[2 * EACH + 1])  # in the third frame
    warm.caches.keep(kept.reading.cut_to(within), kept.cache)
    assert kept_of(asker.ask(asked)) == places[2 * EACH]


def test_an_answer_spelt_otherwise_by_the_tokenizer_shortens_what_is_reused(
    asker: Asker, composer: Composer
) -> None:
    """The prompt spells earlier answers anew, and a model may have spelt them otherwise."""
    asked = question("Say it.")
    first = asker.ask(asked, max_new_tokens=12)
    text = composer.tokens.decode(first.token_ids).strip()
    assert composer.tokens.encode_plain(text) != list(first.token_ids)
    second = asker.ask(heard(asked, first).asked(Turn("Again.")))
    assert first.statistics is not None
    assert kept_of(second) >= first.statistics.prompt_tokens - 1


def test_an_edited_question_and_its_former_self_are_both_remembered(asker: Asker) -> None:
    trunk = question("What is it?", CAT)
    trunk = heard(trunk, asker.ask(trunk))
    red, blue = trunk.asked(Turn("Is it red?")), trunk.asked(Turn("Is it blue?"))
    asker.ask(red)
    assert unread(asker.ask(blue)) < 20
    assert unread(asker.ask(red)) == 1 == unread(asker.ask(blue))


@pytest.mark.parametrize("choices", [{"temperature": 1.5, "seed": 5}, {"repetition_penalty": 1.8}])
def test_sampling_is_the_same_after_a_cache(asker: Asker, choices: dict[str, Any]) -> None:
    """Chance is not consumed by reading, and only new tokens are penalised."""
    asked = question("red red red red", CAT)
    first = asker.ask(asked, max_new_tokens=24, **choices)
    again = asker.ask(asked, max_new_tokens=24, **choices)
    assert unread(again) == 1 and again.token_ids == first.token_ids


def test_decoding_uses_nothing_that_a_cache_breaks() -> None:
    """transformers 5.24: looking up the prompt reads a cache twice; two caches are refused."""
    config = configure(Sampling(), 10, eos=[1])
    assert config.prompt_lookup_num_tokens is None and config.cache_implementation is None


def test_a_model_with_a_sliding_window_keeps_nothing_and_is_right(composer: Composer) -> None:
    network = tiny_network(
        composer, use_sliding_window=True, sliding_window=16, max_window_layers=1
    )
    warm = LocalModel(network, composer.facts, composer.tokens)
    cold = LocalModel(network, composer.facts, composer.tokens, kept_bytes=0)
    asker = Asker(composer, warm, cold)
    asked = question("What is it?", CAT)
    for words in ("And?", "Why?"):
        asked = heard(asked, asker.ask(asked)).asked(Turn(words))
    assert kept_of(asker.ask(asked)) == 0 == len(warm.caches)


def test_int8_reads_everything_anew(
    network: Any, composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read together changes every row there."""
    for kind, kept in ((Quantization.INT8, 0), (Quantization.NF4, 1), (None, 1)):
        monkeypatch.setattr("backend.local.loaded.quantization_of", lambda _, kind=kind: kind)
        model = LocalModel(network, composer.facts, composer.tokens)
        stream = AnswerStream(Request(question("Hello!"), Sampling(max_new_tokens=2)))
        model.answer(prepare(composer, stream), stream)
        assert len(model.caches) == kept


class Room:
    """Stands for the planner: refuses a question while too much is kept."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.model: LocalModel | None = None

    def __call__(self, prepared: Prepared) -> None:
        assert self.model is not None
        if self.model.caches.nbytes + self.model.features.nbytes > self.bound:
            raise OutOfMemory("No room.", "Ask less.")


def test_what_is_kept_yields_to_a_question(composer: Composer, network: Any) -> None:
    room = Room(1 << 30)
    model = LocalModel(network, composer.facts, composer.tokens, room)
    room.model = model
    cold = LocalModel(network, composer.facts, composer.tokens, kept_bytes=0)
    asker = Asker(composer, model, cold)
    for file in (CAT, DOG, FILM):
        asker.ask(question("What is it?", file))
    assert len(model.caches) == 3
    room.bound = model.caches.nbytes
    assert unread(asker.ask(question("What is it?", FILM))) == 1  # the oldest one left
    assert model.features.nbytes > 0
    room.bound = 0
    assert unread(asker.ask(question("What is it?", FILM))) == 1  # its own cache stayed
    room.bound = -1
    with pytest.raises(OutOfMemory):
        asker.ask(question("What is it?", FILM))
    assert model.caches.nbytes == 0 == model.features.nbytes


def test_memory_that_ran_out_is_given_back(
    asker: Asker, warm: LocalModel, network: Any, composer: Composer
) -> None:
    for file in (CAT, DOG):
        asker.ask(question("What is it?", file))

    def evil(*_: object) -> None:
        handle.remove()
        raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = network.model.language_model.layers[1].register_forward_pre_hook(evil)
    stream = AnswerStream(Request(question("And this?", FILM)))
    with pytest.raises(torch.OutOfMemoryError):
        warm.answer(prepare(composer, stream), stream)
    assert warm.caches.nbytes == 0 == warm.features.nbytes
    asker.ask(question("What is it?", CAT))


@pytest.mark.parametrize("short", [True, False])
def test_what_is_kept_makes_room_where_memory_ran_short(
    asker: Asker, warm: LocalModel, short: bool
) -> None:
    """In a batch too, which keeps nothing itself and cannot free what the model does."""
    asker.ask(question("What is it?", CAT))
    warm.recover(short)
    assert (warm.caches.nbytes == 0 == warm.features.nbytes) is short


def test_an_answer_with_ids_of_its_own_end_is_reused_to_there(
    composer: Composer, network: Any
) -> None:
    """The token that ends an answer is never read, so it is not kept either."""
    greedy = Sampling(max_new_tokens=6)
    asked = question("What is it?", CAT)
    model = LocalModel(network, composer.facts, composer.tokens)
    stream = AnswerStream(Request(asked, greedy))
    model.answer(prepare(composer, stream), stream)
    third = stream.token_ids[2]
    facts = replace(composer.facts, eos_token_ids=(third,))
    ended, cold = (
        LocalModel(network, facts, composer.tokens, kept_bytes=kept) for kept in (1 << 30, 0)
    )
    answered = heard(asked, Asker(composer, ended, cold).ask(asked))
    (kept,) = ended.caches._kept.values()
    assert kept.reading.ids[-2:].tolist() == list(stream.token_ids[:2])
    Asker(composer, ended, cold).ask(answered.asked(Turn("And?")))
