"""`transformers serve`, the real one: it answers token for token as the local engine does."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import app
from backend.conversation import Answer, Conversation, End, Request, Sampling, Turn
from backend.engine import Engine, State
from backend.local.engine import LocalEngine
from backend.media.recognise import attach
from backend.prompt.boxes import find_regions
from backend.settings import Settings
from tests.door.conftest import as_url, said, shown, words
from tests.engines.conftest import EXAMPLES, Connect
from tests.engines.running import ROOT
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
    turns: tuple[Turn, ...], transformers: str, local: LocalEngine, connect: Connect
) -> None:
    engine = connect(transformers)
    assert "transformers serve" in engine.status().device
    assert converse(engine, turns) == converse(local, turns)


def test_sampling_beyond_openai_is_taken_and_the_answer_ends(
    transformers: str, connect: Connect
) -> None:
    engine = connect(transformers)
    talk = Conversation((Turn("Hello."),))
    for sampling in (
        Sampling(temperature=0.7, top_k=5, top_p=0.9, seed=1, max_new_tokens=200),
        Sampling(repetition_penalty=1.1, max_new_tokens=200),
    ):
        stream = engine.stream(Request(talk, sampling, "one"))
        assert "".join(stream)
        assert stream.statistics is not None and stream.statistics.new_tokens < 200


def test_a_seed_makes_chance_repeatable(transformers: str, connect: Connect) -> None:
    engine = connect(transformers)

    def told(seed: int) -> str:
        sampling = Sampling(temperature=2, seed=seed, max_new_tokens=30)
        return "".join(engine.stream(Request(Conversation((Turn("Hello."),)), sampling)))

    assert told(7) == told(7) and len({told(seed) for seed in range(5)}) > 1


def test_four_turns_with_two_pictures_and_a_video_from_the_terminal(
    transformers: str, local: LocalEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = (
        Turn("How many shapes are there?", (PICTURE,)),
        Turn("And in Image-2?", (OTHER,)),
        Turn("What moves?", (FILM,)),
        Turn("Thank you."),
    )
    asked = ["How many shapes are there?", "--image", PICTURE.path]
    asked += ["--then", "And in Image-2?", "--image", OTHER.path]
    asked += ["--then", "What moves?", "--video", FILM.path, "--then", "Thank you."]
    asked += ["--engine", transformers, "--max-new-tokens", "60", "--json"]
    assert app.main(["ask", *asked]) == 0
    said = json.loads(capsys.readouterr().out)["turns"]
    told = [(one["answer"], one["prompt_tokens"], one["visual_tokens"]) for one in said]
    assert told == converse(local, turns)


def test_stop_ends_the_work_or_the_next_question_would_wait_for_minutes(
    tmp_path: Path, connect: Connect
) -> None:
    with running_transformers(tmp_path, name="endless") as url:
        engine = connect(url)
        talk = Conversation((Turn("Tell me all."),))
        stream = engine.stream(Request(talk, Sampling(max_new_tokens=30_000)))
        assert stream.take(60)
        stream.close()
        assert stream.statistics is not None and stream.statistics.end is End.STOPPED
        short = engine.stream(Request(talk, Sampling(max_new_tokens=3)))
        assert short.take(60)  # it answers one question at a time


def test_a_stop_text_is_cut_here(transformers: str, connect: Connect) -> None:
    talk = Conversation((Turn("How many shapes are there?", (PICTURE,)),))
    whole = "".join(connect(transformers).stream(Request(talk)))
    stop = whole.split()[1]
    stream = connect(transformers).stream(Request(talk, Sampling(stop=(stop,))))
    assert "".join(stream) == whole.split(stop)[0]


POINT = "Please provide the bounding box coordinate of the region this sentence describes: "
POINT += "<ref>red circle</ref>"
SHAPES = EXAMPLES / "three-shapes.png"
TOLD = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")


def test_no_field_of_a_request_keeps_the_signs_of_boxes(
    transformers: str, connect: Connect
) -> None:
    model = httpx.get(f"{transformers}/v1/models", trust_env=False).json()["data"][0]["id"]
    messages = said([shown(as_url(SHAPES.read_bytes())), words(POINT)])
    keep = {"skip_special_tokens": False}
    with httpx.Client(base_url=transformers, trust_env=False, timeout=60) as client:

        def told(**fields: object) -> str:
            body = {"model": model, "messages": messages, "max_tokens": 40, **fields}
            answer = client.post("/v1/chat/completions", json=body)
            if answer.status_code == 422:
                return "not taken"
            return str(answer.json()["choices"][0]["message"]["content"])

        assert told(**keep) == told(extra_body=keep) == "not taken"
        bare = told()
        assert bare.startswith("red circle[[")
        config = json.dumps({**keep, "do_sample": False})
        assert told(generation_config=config) == told(chat_template_kwargs=keep) == bare
    talk = Conversation((Turn(POINT, (attach(str(SHAPES)),)),))
    answer = "".join(connect(transformers).stream(Request(talk, Sampling(max_new_tokens=40))))
    assert [region.name for region in find_regions(answer)] == ["red circle"]


def test_boxes_arrive_whole_where_the_tokenizer_tells_how_answers_are_parsed(
    tmp_path: Path, connect: Connect
) -> None:
    talk = Conversation((Turn(POINT, (attach(str(SHAPES)),)),))
    told = re.search(r'^"response_template": (.*)$', TOLD, re.M)
    assert told
    with running_transformers(tmp_path, response_template=json.loads(told[1])) as url:
        stream = connect(url).stream(Request(talk, Sampling(max_new_tokens=40)))
        text = "".join(stream)
    assert text.startswith("<ref>red circle</ref><box>[[") and text.endswith("]]</box>")
    assert stream.statistics is not None and stream.statistics.end is End.EOS
