"""Which engine is it, and what it says: from what real ones said."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from PIL import Image

from backend.conversation import Attachment, Conversation, End, Kind, Request, Sampling, Turn
from backend.engine import Stage, State
from backend.errors import BadCheckpoint, BadSetting, EngineBusy, EngineFailed, TooLong
from backend.media.stopping import Stopped, StopSign
from backend.remote import faults
from backend.remote.dialects import Software
from backend.remote.engine import MOST_EXPECTING, MOST_OPEN, RemoteEngine
from backend.remote.estimate import open_composer_of
from backend.remote.events import read_json
from backend.remote.pictures import Picture, Pictures
from backend.remote.recognise import Served, read_models
from backend.settings import Settings
from tests.backend.checkpoint.folders import ORIGINAL
from tests.backend.remote.conftest import HASTY, WAIT_S, Connect, Serve, ask, question, read_all
from tests.backend.remote.scripted_server import (
    ANSWER,
    DONE,
    JSON,
    ROLE,
    Cut,
    Reply,
    ScriptedServer,
    models,
    refusal,
    transcript,
    usage,
    word,
)
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent.parent
REAL = {
    "llama.cpp": (Software.LLAMA, "tiny-internvl", 8192),
    "transformers-serve": (Software.TRANSFORMERS, "ckpt/hf", None),
    "vllm-hf": (Software.VLLM, "tiny-internvl", 8192),
    "sglang-original": (Software.SGLANG, "tiny-internvl", 8192),
}


def listed(reply: Reply) -> dict:
    (body,) = reply.steps
    assert isinstance(body, bytes)
    return dict(read_json(body.decode()))


@pytest.mark.parametrize("name", REAL)
def test_engines_are_told_apart_by_their_list_of_models(name: str) -> None:
    software, model, context = REAL[name]
    assert read_models(listed(transcript(name, "models"))) == Served(software, model, context)


def test_lmdeploy_and_unknown_ones_are_told_apart_as_documented() -> None:
    assert read_models(models("lmdeploy", "internvl3-78b")).software is Software.LMDEPLOY
    for owner in ("openai", "local", "library", ""):
        assert read_models(models(owner)).software is Software.OTHER
    blind = models("llamacpp", architecture={"input_modalities": ["text"]})
    assert not read_models(blind).sees


def test_of_several_models_the_wanted_one_is_asked() -> None:
    body = {"data": [{"id": "a/first"}, {"id": "b/InternVL3-2B"}]}
    assert read_models(body).model == "a/first"
    assert read_models(body, "InternVL3-2B").model == "b/InternVL3-2B"
    assert read_models(body, "InternVL3-8B").model == "a/first"


@pytest.mark.parametrize("name", REAL)
def test_the_streams_of_real_engines_are_read(name: str, serve: Serve, connect: Connect) -> None:
    server = serve(models=transcript(name, "models"), usual=transcript(name, "stream"))
    engine = connect(server.url)
    stream = engine.stream(question())
    text = "".join(stream)
    told = stream.statistics
    assert text and told is not None
    assert (told.new_tokens, told.end) == (4, End.LENGTH)
    assert told.prompt_tokens == (49 if "sglang" in name else 12)  # one has its own system prompt
    assert told.cached_tokens == {"llama.cpp": 11, "sglang-original": 48}.get(name, 0)
    assert str(REAL[name][0]) in engine.status().device
    assert server.asked[0].body is not None
    assert server.asked[0].body["model"] == REAL[name][1]


@pytest.mark.parametrize("owner", ["lmdeploy", "vllm", "sglang"])
def test_signs_that_are_asked_for_are_left_out_but_boxes_stay(
    owner: str, serve: Serve, connect: Connect
) -> None:
    box = "<ref>cat</ref><box>[[1, 2, 3, 4]]</box>"
    reply = Reply((ROLE, word(box[:7]), word(f"{box[7:]}<|im_"), word("end|>", "stop"), DONE))
    server = serve(models=refusal(200, models(owner)), usual=reply)
    assert ask(connect(server.url)) == box
    assert server.asked[0].body is not None
    assert server.asked[0].body["skip_special_tokens"] is False


def test_what_an_engine_cannot_is_told(serve: Serve, connect: Connect) -> None:
    def unable(owner: str, **more: object) -> set[str]:
        server = serve(models=refusal(200, models(owner, **more)))
        return {one.what for one in connect(server.url).status().unable}

    assert unable("lmdeploy") == set()
    assert unable("vllm") == {"combined"}
    assert unable("sglang") == {"combined", "seed"}
    assert unable("somebody") == {"combined", "top_k", "repetition_penalty"}
    blind = {"input_modalities": ["text"]}
    assert unable("llamacpp", architecture=blind) == {"combined", "image", "video", "boxes"}


def test_who_leaves_out_the_signs_of_boxes_is_told(serve: Serve, connect: Connect) -> None:
    def reasons(owner: str, **more: object) -> dict[str, str]:
        server = serve(models=refusal(200, models(owner, **more)))
        return {one.what: one.reason for one in connect(server.url).status().unable}

    assert "--special" in reasons("llamacpp")["boxes"]
    assert "transformers" in reasons("local", status="available")["boxes"]
    assert "boxes" not in reasons("vllm")


def test_vllm_is_sent_a_picture_once_and_again_when_it_forgot(
    serve: Serve, connect: Connect, picture
) -> None:
    server = serve()
    engine = connect(server.url)
    talk = question("Look.", picture)

    def urls() -> list[object]:
        body = server.asked[-1].body
        assert body is not None
        parts = body["messages"][1]["content"]
        return [part["image_url"] for part in parts if part["type"] == "image_url"]

    assert ask(engine, talk) == "An answer." and urls()[0] is not None
    assert ask(engine, talk) == "An answer." and urls() == [None]
    server.scripts.append(refusal(400, {"error": {"message": "cache miss"}}))
    assert ask(engine, talk) == "An answer." and urls()[0] is not None
    assert len(server.asked) == 4
    server.scripts.append(refusal(400, {"error": {"message": "no"}}))
    server.scripts.append(refusal(400, {"error": {"message": "no"}}))
    assert isinstance(read_all(engine.stream(talk))[1], EngineFailed)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(429, "", Retry_After="90"), EngineBusy),
        (refusal(401, ""), faults.NotAllowed),
        (refusal(404, {"error": "no such model"}), faults.NoSuchModel),
        (refusal(413, ""), faults.TooLarge),
        (Reply((Cut(),)), faults.Lost),
        (Reply((Event(),)), faults.Silent),
    ],
)
def test_vllm_is_not_sent_a_picture_again_for_what_forgetting_does_not_explain(
    reply: Reply, kind: type[Exception], server: ScriptedServer, connect: Connect, picture
) -> None:
    engine = connect(server.url, patience=HASTY)
    talk = question("Look.", picture)
    assert ask(engine, talk) == "An answer."
    server.scripts.append(reply)
    assert isinstance(read_all(engine.stream(talk))[1], kind)
    assert len(server.asked) == 2


def test_vllm_that_is_busy_keeps_its_pictures(server: ScriptedServer, engine, picture) -> None:
    talk = question("Look.", picture)
    ask(engine, talk)
    server.scripts.append(refusal(429, "", Retry_After="0"))
    assert ask(engine, talk) == "An answer."
    assert len(server.asked) == 3
    for asked in server.asked[1:]:
        assert asked.body is not None
        assert asked.body["messages"][1]["content"][0]["image_url"] is None


def test_stop_texts_that_an_engine_cannot_take_are_cut_here(serve: Serve, connect: Connect) -> None:
    steps = (word("one tw"), word("o three"), Event(), word(" four", "stop"))
    server = serve(models=transcript("transformers-serve", "models"), usual=Reply(steps))
    stream = connect(server.url).stream(question(stop=("two",)))
    assert "".join(stream) == "one "
    assert stream.statistics is not None and stream.statistics.end is End.EOS
    wait_until(lambda: server.left == 1)
    assert server.asked[0].body is not None and "stop" not in server.asked[0].body


def test_a_question_that_does_not_fit_is_not_sent(server: ScriptedServer, engine) -> None:
    request = question("word " * 30_000)
    _, error = read_all(engine.stream(request))
    assert isinstance(error, TooLong) and not server.asked


def test_the_engines_own_context_is_the_limit(serve: Serve, connect: Connect) -> None:
    server = serve(models=refusal(200, models(max_model_len=1000)))
    engine = connect(server.url)
    assert engine.composer is not None and engine.composer.facts.context_length == 1000
    ask(engine, question(max_new_tokens=5000))
    assert server.asked[0].body is not None and server.asked[0].body["max_tokens"] < 1000


def test_an_unknown_model_is_estimated_with_the_facts_of_internvl3() -> None:
    composer = open_composer_of(Served(Software.VLLM, "who/knows-hf", 16_384), Settings())
    facts = composer.facts
    assert (facts.tile, facts.tokens_per_tile, facts.max_tiles) == (448, 256, 12)
    assert (facts.name, facts.context_length, str(facts.layout)) == ("knows-hf", 16_384, "hf")
    budget = composer.measure(Conversation((Turn("Hello there, how are you today? 你好"),)))
    assert budget.estimated and 40 < budget.text < 120
    assert open_composer_of(Served(Software.VLLM, "x"), Settings()).facts.context_length == 32_768


def test_a_model_known_here_is_counted_exactly(tmp_path: Path) -> None:
    for model in ("bundled", str(ROOT / "assets" / "checkpoint")):
        composer = open_composer_of(Served(Software.TRANSFORMERS, model), Settings())
        assert not composer.estimated and composer.facts.tile == 112
    named = open_composer_of(Served(Software.VLLM, "tiny"), Settings(model=str(ORIGINAL)))
    assert not named.estimated and named.facts.name == ORIGINAL.name
    with pytest.raises(BadCheckpoint):
        open_composer_of(Served(Software.VLLM, "tiny"), Settings(model=str(tmp_path)))


def test_a_longer_context_than_the_engines_is_refused() -> None:
    served = Served(Software.VLLM, "x", 8192)
    assert open_composer_of(served, Settings(context=4096)).facts.context_length == 4096
    with pytest.raises(BadSetting, match="8,192"):
        open_composer_of(served, Settings(context=16_384))


def test_a_wrong_checkpoint_is_told_in_the_status(
    server: ScriptedServer, connect: Connect, tmp_path: Path
) -> None:
    engine = connect(server.url, ready=False, model=str(tmp_path))
    wait_until(lambda: engine.status().state is State.FAILED)
    assert "empty" in engine.status().reason
    _, error = read_all(engine.stream(question()))
    assert isinstance(error, EngineFailed) and "empty" in str(error)


def test_a_question_asked_before_the_engine_is_known_waits_for_it(server: ScriptedServer) -> None:
    engine = RemoteEngine(Settings(engines=(server.url,)))
    assert engine.status().state is State.LOADING
    stream = engine.stream(question())
    engine.start()
    assert "".join(stream) == "An answer."
    engine.close()
    engine.close()
    with pytest.raises(EngineFailed, match="closed"):
        engine.stream(question())


def test_closing_an_engine_that_was_never_started_ends_its_streams() -> None:
    engine = RemoteEngine(Settings(engines=("http://127.0.0.1:9",)))
    stream = engine.stream(question())
    engine.close()
    assert list(stream) == [] and stream.progress.stage is Stage.ENDED


def test_expected_files_are_ready_when_they_are_asked_about(
    server: ScriptedServer, engine, picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Attachment] = []
    make = Pictures._make

    def spy(self: Pictures, file: Attachment, stopped: StopSign) -> tuple[Picture, ...]:
        found = make(self, file, stopped)
        made.append(file)
        return found

    monkeypatch.setattr(Pictures, "_make", spy)
    engine.expect("one", (picture,))
    wait_until(lambda: made)
    engine.expect("one", ())
    assert ask(engine, question("Look.", picture)) == "An answer."
    assert made == [picture]


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StopSign]]:
    """Files called "stuck" are made until their stop sign is true; the signs of those begun."""
    signs: list[StopSign] = []
    over = Event()
    make = Pictures._make

    def wait(self: Pictures, file: Attachment, stopped: StopSign) -> tuple[Picture, ...]:
        if not file.name.startswith("stuck"):
            return make(self, file, stopped)
        signs.append(stopped)
        wait_until(lambda: over.is_set() or stopped())
        raise Stopped

    monkeypatch.setattr(Pictures, "_make", wait)
    yield signs
    over.set()


def test_files_that_take_long_hold_up_no_question_and_are_dropped_when_unwanted(
    stuck: list[StopSign], engine, picture: Attachment, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 90)).save(tmp_path / "stuck.png")
    slow = Attachment(str(tmp_path / "stuck.png"), Kind.IMAGE, "stuck.png")
    for _ in range(5):
        engine.expect("one", (slow,))
    wait_until(lambda: stuck)
    stream = engine.stream(question("Look.", picture))
    assert stream.take(WAIT_S) and not stuck[0]()
    engine.expect("other", (slow,))
    engine.expect("one", ())
    assert stuck[0]()
    wait_until(lambda: len(stuck) == 2)  # the other still wants it, and the thread is free
    engine.close()
    assert stuck[1]() and len(stuck) == 2


def test_who_hinted_longest_ago_is_forgotten(
    stuck: list[StopSign], engine, picture: Attachment, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 90)).save(tmp_path / "stuck.png")
    slow = Attachment(str(tmp_path / "stuck.png"), Kind.IMAGE, "stuck.png")
    engine.expect("first", (slow,))
    wait_until(lambda: stuck)
    for number in range(MOST_EXPECTING - 1):
        engine.expect(f"{number}", (picture,))
    assert not stuck[0]()
    engine.expect("one more", (picture,))
    assert stuck[0]()


def test_nobody_takes_all_places(serve: Serve, connect: Connect) -> None:
    server = serve(usual=Reply((Event(),)))
    engine = connect(server.url)
    streams = [engine.stream(question(session="a")) for _ in range(MOST_OPEN // 4)]
    with pytest.raises(EngineBusy, match="128 questions of yours"):
        engine.stream(question(session="a"))
    wait_until(lambda: len(server.asked) == len(streams))
    server.usual = ANSWER
    assert ask(engine, question(session="b")) == "An answer."
    streams[0].close()
    wait_until(lambda: streams[0] not in engine._open)
    assert ask(engine, question(session="a")) == "An answer."


def test_a_file_that_is_gone_is_told_and_nothing_is_sent(
    server: ScriptedServer, engine, picture
) -> None:
    Path(picture.path).unlink()
    _, error = read_all(engine.stream(question("Look.", picture)))
    assert "a.webp" in str(error) and not server.asked


def test_usage_with_the_last_word_or_alone_or_never(server: ScriptedServer, engine) -> None:
    counts = {"prompt_tokens": 9, "completion_tokens": 2}
    server.scripts.append(Reply((word("Hi", "stop", usage=counts), DONE)))
    server.scripts.append(Reply((word("Hi", "stop"), usage(9, 2, 8), DONE)))
    server.scripts.append(Reply((b'{"choices": [{"message": {"content": "Hi"}}]}',), 200, JSON))
    told = []
    for _ in range(3):
        stream = engine.stream(question())
        assert "".join(stream) == "Hi"
        told.append(stream.statistics)
    assert [cost.new_tokens for cost in told] == [2, 2, 1]
    assert [cost.cached_tokens for cost in told] == [0, 8, 0]
    assert told[0].prompt_tokens == 9 and told[2].prompt_tokens > 9


def test_nothing_of_torch_is_imported() -> None:
    program = (
        "import sys\nfrom tests.backend.remote.scripted_server import ScriptedServer\n"
        "import app\nserver = ScriptedServer()\n"
        "assert app.main(['ask', 'Q', '--engine', server.url]) == 0\n"
        "print(sorted({'torch', 'transformers', 'accelerate', 'gradio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["An answer.", "[]"]


def test_a_conversation_of_words_alone_is_sent_as_words(server: ScriptedServer, engine) -> None:
    talk = Conversation((Turn("Hi"),))
    "".join(engine.stream(Request(talk, Sampling(), "one")))
    assert server.asked[0].body is not None
    assert [message["role"] for message in server.asked[0].body["messages"]] == ["system", "user"]
