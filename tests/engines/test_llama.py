"""llama.cpp, the real one, with the bundled checkpoint: what a person sees of it is right."""

import json
import threading

import pytest

import app
from backend.conversation import Answer, Conversation, End, Request, Sampling, Turn
from backend.engine import Stage
from backend.media.recognise import attach
from backend.prompt.boxes import find_regions
from backend.prompt.compose import open_composer
from backend.remote.engine import RemoteEngine
from backend.settings import Settings
from tests.engines.conftest import EXAMPLES, Connect
from tests.engines.running import ROOT, Llama
from tests.waiting import wait_until

PICTURE, OTHER, FILM = (
    EXAMPLES / name for name in ("night.png", "three-shapes.png", "gliding-star.mp4")
)


def converse(engine: RemoteEngine, *turns: Turn) -> Conversation:
    """Ask one question after the other."""
    conversation = Conversation()
    for turn in turns:
        conversation = conversation.asked(turn)
        stream = engine.stream(Request(conversation, Sampling(max_new_tokens=40), "one"))
        text = "".join(stream)
        answer = Answer(text, stream.token_ids, stream.statistics)
        conversation = conversation.answered(answer)
    return conversation


def test_four_turns_with_two_pictures_and_a_video_from_the_terminal(
    llama: Llama, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["How many shapes are there?", "--image", str(PICTURE)]
    words += ["--then", "How many shapes are in Image-2?", "--image", str(OTHER)]
    words += ["--then", "What moves?", "--video", str(FILM)]
    words += ["--then", "Thank you.", "--engine", llama.url, "--max-new-tokens", "60", "--json"]
    assert app.main(["ask", *words]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert said.err == "" and report["model"] == "bundled"
    first, second, third, fourth = report["turns"]
    assert "three" in first["answer"] or "3" in first["answer"]
    assert (first["visual_tokens"], second["visual_tokens"]) == (16, 32)
    assert third["visual_tokens"] == fourth["visual_tokens"] == 32 + 8 * 16
    assert all(turn["answer"] and turn["new_tokens"] > 0 for turn in report["turns"])
    assert fourth["prompt_tokens"] > third["prompt_tokens"] > second["prompt_tokens"]


def test_the_engine_counts_the_very_tokens_that_the_budget_foresaw(
    llama: Llama, connect: Connect
) -> None:
    composer = open_composer(ROOT / "assets" / "checkpoint", Settings(), "bundled")
    engine = connect(llama.url)
    files = tuple(attach(str(path)) for path in (PICTURE, OTHER, FILM))
    asked: tuple[Turn, ...] = ()
    for turn in (
        Turn("Hello."),
        Turn("What is this?", files[:1]),
        Turn("Compare them.", files),
        Turn("<|im_end|> <IMG_CONTEXT> <image> 你好"),
    ):
        conversation = converse(engine, *asked, turn)
        told = conversation.turns[-1].answer
        assert told is not None and told.statistics is not None
        foreseen = composer.compose(conversation.unanswered()).budget
        if "IMG_CONTEXT" not in turn.question:
            assert told.statistics.prompt_tokens == foreseen.total
        assert told.statistics.visual_tokens == foreseen.visual
        asked = (*asked, turn)


def test_a_box_is_found_though_the_engine_leaves_its_signs_out(
    llama: Llama, connect: Connect
) -> None:
    question = "Please provide the bounding box coordinate of the region this sentence describes: "
    question += "<ref>red circle</ref>"
    (turn,) = converse(connect(llama.url), Turn(question, (attach(str(OTHER)),))).turns
    assert turn.answer and "<box>" not in turn.answer.text
    assert [region.name for region in find_regions(turn.answer.text)] == ["red circle"]


def test_a_second_turn_is_read_from_the_engines_cache(llama: Llama, connect: Connect) -> None:
    files = (attach(str(PICTURE)),)
    talk = converse(connect(llama.url), Turn("What is this?", files), Turn("Sure?"))
    first, second = (turn.answer for turn in talk.turns)
    assert first is not None and first.statistics is not None
    assert second is not None and second.statistics is not None
    assert second.statistics.cached_tokens >= first.statistics.prompt_tokens - 1


def test_a_seed_makes_chance_repeatable(llama: Llama, connect: Connect) -> None:
    engine = connect(llama.url)

    def told(seed: int) -> str:
        sampling = Sampling(temperature=2, seed=seed, max_new_tokens=40)
        return "".join(engine.stream(Request(Conversation((Turn("Say something."),)), sampling)))

    assert told(7) == told(7) and len({told(seed) for seed in range(5)}) > 1


def test_a_stop_text_ends_the_answer_before_it(llama: Llama, connect: Connect) -> None:
    question = Conversation((Turn("How many shapes are there?", (attach(str(PICTURE)),)),))
    whole = "".join(connect(llama.url).stream(Request(question)))
    word = whole.split()[2]
    stream = connect(llama.url).stream(Request(question, Sampling(stop=(word,))))
    assert "".join(stream) == whole.split(word)[0]


def test_stop_ends_the_work_by_the_engines_own_figures(endless: Llama, connect: Connect) -> None:
    engine = connect(endless.url)
    composer = engine.composer
    assert composer is not None and composer.estimated
    request = Request(Conversation((Turn("Tell me all."),)), Sampling(max_new_tokens=30_000))
    stream = engine.stream(request)
    texts = iter(stream)
    assert next(texts)
    assert endless.busy == 1 and stream.progress.stage is Stage.WRITING
    stream.close()
    wait_until(lambda: endless.busy == 0, "the engine goes on")
    written = endless.figure("tokens_predicted_total")
    assert 0 < written < 30_000
    assert stream.statistics is not None and stream.statistics.end is End.STOPPED
    short = engine.stream(Request(request.conversation, Sampling(max_new_tokens=3)))
    assert "".join(short)
    assert endless.figure("tokens_predicted_total") <= written + 4
    assert short.statistics is not None and short.statistics.new_tokens == 3


def test_closing_the_engine_ends_what_runs(endless: Llama, connect: Connect) -> None:
    engine = connect(endless.url)
    request = Request(Conversation((Turn("Go on."),)), Sampling(max_new_tokens=30_000))
    stream = engine.stream(request)
    assert next(iter(stream))
    reading = threading.Thread(target=lambda: list(stream))
    reading.start()
    engine.close()
    reading.join(20)
    assert not reading.is_alive()
    wait_until(lambda: endless.busy == 0, "the engine goes on")
