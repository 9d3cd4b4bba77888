"""`transformers serve`, the real one: it answers token for token as the local engine does."""

from collections.abc import Iterator

import pytest

from backend.conversation import Answer, Conversation, Request, Sampling, Turn
from backend.engine import Engine, State
from backend.local.engine import LocalEngine
from backend.media.recognise import attach
from backend.settings import Settings
from tests.engines.conftest import EXAMPLES, Connect
from tests.engines.serve_transformers import running_transformers
from tests.waiting import wait_until

PICTURE, OTHER, FILM = (
    attach(str(EXAMPLES / name)) for name in ("night.png", "sky-one.png", "gliding-star.mp4")
)
TALKS = (
    (Turn("Hello."), Turn("What can you do?")),
    (Turn("How many shapes are there?", (PICTURE,)), Turn("What colour is the background?")),
    (Turn("Compare the pictures.", (PICTURE, OTHER)), Turn("And the first alone?")),
    (Turn("What is this?", (OTHER,)), Turn("And this?", (PICTURE,)), Turn("What moves?", (FILM,))),
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_transformers(tmp_path_factory.mktemp("transformers")) as url:
        yield url


@pytest.fixture(scope="module")
def local() -> Iterator[LocalEngine]:
    engine = LocalEngine(Settings(dtype="float32"))
    engine.start()
    wait_until(lambda: engine.status().state is State.READY, "the local engine does not load")
    yield engine
    engine.close()


def converse(engine: Engine, turns: tuple[Turn, ...]) -> list[tuple[str, int, int]]:
    """Each answer with the tokens that were read and written for it."""
    told = []
    talk = Conversation()
    for turn in turns:
        talk = talk.asked(turn)
        stream = engine.stream(Request(talk, Sampling(max_new_tokens=60), "one"))
        text = "".join(stream)
        cost = stream.statistics
        assert cost is not None
        talk = talk.answered(Answer(text))
        told.append((text, cost.prompt_tokens, cost.visual_tokens))
    return told


@pytest.mark.parametrize("turns", TALKS, ids=lambda turns: turns[0].question)
def test_it_answers_as_the_local_engine_does(
    turns: tuple[Turn, ...], address: str, local: LocalEngine, connect: Connect
) -> None:
    engine = connect(address)
    assert "transformers serve" in engine.status().device
    assert converse(engine, turns) == converse(local, turns)


def test_sampling_beyond_openai_is_taken_and_the_answer_ends(
    address: str, connect: Connect
) -> None:
    engine = connect(address)
    talk = Conversation((Turn("Hello."),))
    for sampling in (
        Sampling(temperature=0.7, top_k=5, top_p=0.9, seed=1, max_new_tokens=200),
        Sampling(repetition_penalty=1.1, max_new_tokens=200),
    ):
        stream = engine.stream(Request(talk, sampling, "one"))
        assert "".join(stream)
        assert stream.statistics is not None and stream.statistics.new_tokens < 200


def test_a_seed_makes_chance_repeatable(address: str, connect: Connect) -> None:
    engine = connect(address)

    def told(seed: int) -> str:
        sampling = Sampling(temperature=2, seed=seed, max_new_tokens=30)
        return "".join(engine.stream(Request(Conversation((Turn("Hello."),)), sampling)))

    assert told(7) == told(7) and len({told(seed) for seed in range(5)}) > 1


def test_a_stop_text_is_cut_here(address: str, connect: Connect) -> None:
    talk = Conversation((Turn("How many shapes are there?", (PICTURE,)),))
    whole = "".join(connect(address).stream(Request(talk)))
    stop = whole.split()[1]
    stream = connect(address).stream(Request(talk, Sampling(stop=(stop,))))
    assert "".join(stream) == whole.split(stop)[0]
