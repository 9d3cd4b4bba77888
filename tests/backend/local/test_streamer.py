"""Stop texts through the real network: where the answer ends, its ids, and what is kept of it."""

import pytest
import torch

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import End
from backend.local.decoding import ByteTable
from backend.local.load import load_network
from backend.local.model import LocalModel
from backend.local.placement import Placement
from backend.local.stopping import Stopped
from backend.local.streamer import AnswerStreamer, StopFound
from backend.prompt.compose import Composer
from backend.stream import AnswerStream
from tests.backend.local.stand_ins import instant_composer
from tests.backend.local.test_model import answer, request


@pytest.fixture(scope="module")
def composer() -> Composer:
    return instant_composer()


@pytest.fixture(scope="module")
def model(composer: Composer) -> LocalModel:
    layout, place = composer.facts.layout, Placement(torch.float32)
    network = load_network(BUNDLED_FOLDER, layout, composer.tokens, place, lambda share: None)
    return LocalModel(network, composer.facts, composer.tokens)


def test_a_closed_stream_ends_an_answer_before_the_prompt_is_read(composer: Composer) -> None:
    stream = AnswerStream(request("Hello!"))
    streamer = AnswerStreamer(stream, ByteTable(composer.tokens), composer.facts.eos_token_ids)
    stream.close()
    with pytest.raises(Stopped):
        streamer.put(torch.zeros((1, 7), dtype=torch.int64))
    assert streamer.taken == []


def text_of(stream: AnswerStream) -> str:
    return "".join(stream)


def test_an_answer_ends_before_a_stop_text_wherever_it_lies(
    model: LocalModel, composer: Composer
) -> None:
    whole, _ = answer(model, composer, request("Hello!"))
    text, ids = text_of(whole), whole.token_ids
    assert len(text) > 20
    for start in range(0, len(text) - 5, 3):
        stop = text[start : start + 5]
        stream, _ = answer(model, composer, request("Hello!", stop=("never", stop)))
        expected = text[: text.find(stop)]
        assert text_of(stream) == expected
        assert stream.statistics is not None and stream.statistics.end is End.EOS
        read = stream.token_ids
        assert read == ids[: len(read)]
        through = composer.tokens.decode(read)
        assert stop in through, "the ids end with the token that completes the text"
        assert stop not in composer.tokens.decode(read[:-1])


def test_without_a_stop_text_the_answer_is_whole(model: LocalModel, composer: Composer) -> None:
    whole, _ = answer(model, composer, request("Hello!"))
    text = text_of(whole)
    beginning = text[-3:] + "#"
    stream, _ = answer(model, composer, request("Hello!", stop=("never", beginning)))
    assert text_of(stream) == text
    assert stream.token_ids == whole.token_ids


def test_what_follows_an_answer_that_stopped_is_right(
    model: LocalModel, composer: Composer
) -> None:
    whole, _ = answer(model, composer, request("What can you do?"))
    text = text_of(whole)
    answer(model, composer, request("What can you do?", stop=(text[4:8],)))
    again, _ = answer(model, composer, request("What can you do?"))
    assert text_of(again) == text


def test_a_text_in_the_last_unfinished_character_counts_too(composer: Composer) -> None:
    stream = AnswerStream(request("Hello!", stop=("\ufffd",)))
    streamer = AnswerStreamer(stream, ByteTable(composer.tokens), eos=())
    streamer.put(torch.tensor([[1]]))
    (first,) = composer.tokens.encode_plain("a")
    half = next(
        number
        for number in range(composer.facts.embedding_rows)
        if ByteTable(composer.tokens).bytes_of(number) == b"\xc3"
    )
    streamer.put(torch.tensor([first]))
    streamer.put(torch.tensor([half]))
    with pytest.raises(StopFound):
        streamer.end()
    stream.finish(streamer.end_reason)
    assert text_of(stream) == "a"
