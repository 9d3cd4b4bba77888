"""Several engines: conversations stay, the dead one's move on, a new one joins."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from backend.conversation import Answer, Conversation, Request, Turn
from backend.engine import State
from backend.errors import BadSetting, BrokenOff, EngineBusy, EngineFailed
from backend.remote.fleet import Listing, key_of
from tests.backend.remote.conftest import QUICK, Connect, Serve, ask, question, read_all
from tests.backend.remote.scripted_server import (
    ANSWER,
    ROLE,
    Cut,
    Reply,
    ScriptedServer,
    models,
    refusal,
    usage,
    word,
)
from tests.waiting import wait_until

TALKS = [f"talk {number}" for number in range(40)]
HANG = Event()


def owners(servers: list[ScriptedServer]) -> dict[str, int]:
    """Which server answered each question, by its text."""
    found = {}
    for number, server in enumerate(servers):
        for asked in server.asked:
            assert asked.body is not None
            found[asked.body["messages"][1]["content"]] = number
    return found


def ask_all(engine, texts: list[str]) -> None:
    for text in texts:
        assert ask(engine, question(text)) == "An answer."


def test_a_conversation_stays_with_its_engine_from_turn_to_turn(serve: Serve, connect: Connect):
    servers = [serve(), serve(), serve()]
    engine = connect(*(server.url for server in servers))
    wait_until(lambda: engine.status().device.startswith("3 of 3"))
    for text in TALKS[:10]:
        talk = Conversation((Turn(text),))
        for _ in range(3):
            stream = engine.stream(Request(talk, session="one"))
            talk = talk.answered(Answer("".join(stream))).asked(Turn("Go on."))
    per_talk = [
        {asked.body["messages"][1]["content"] for asked in server.asked} for server in servers
    ]
    assert sum(map(len, per_talk)) == 10
    assert sum(len(server.asked) for server in servers) == 30


def test_all_engines_get_their_share(serve: Serve, connect: Connect) -> None:
    servers = [serve(), serve()]
    engine = connect(*(server.url for server in servers))
    wait_until(lambda: engine.status().device.startswith("2 of 2"))
    ask_all(engine, TALKS)
    shares = Counter(owners(servers).values())
    assert len(shares) == 2 and min(shares.values()) >= 8


def test_only_the_conversations_of_a_dead_engine_move_and_they_come_back(
    serve: Serve, connect: Connect
) -> None:
    servers = [serve(), serve(), serve()]
    engine = connect(*(server.url for server in servers))
    wait_until(lambda: engine.status().device.startswith("3 of 3"))
    ask_all(engine, TALKS)
    before = owners(servers)
    servers[1].kill()
    for server in servers:
        server.asked.clear()
    ask_all(engine, TALKS)
    after = owners(servers)
    assert all(after[text] == before[text] for text in TALKS if before[text] != 1)
    assert set(after.values()) == {0, 2}
    assert engine.status().device.startswith("2 of 3")
    servers[1].start()
    wait_until(lambda: engine.status().device.startswith("3 of 3"))
    for server in servers:
        server.asked.clear()
    ask_all(engine, TALKS)
    assert owners(servers) == before


def test_before_a_word_another_engine_is_asked_and_nobody_notices(
    serve: Serve, connect: Connect
) -> None:
    servers = [serve(), serve()]
    engine = connect(*(server.url for server in servers))
    wait_until(lambda: engine.status().device.startswith("2 of 2"))
    for reply in (Reply((ROLE, Cut(hard=True))), refusal(500, "x"), refusal(503, "x")):
        for server in servers:
            server.scripts.clear()
            server.asked.clear()
        wait_until(lambda: engine.status().device.startswith("2 of 2"))
        ask(engine)
        mine = next(server for server in servers if server.asked)
        mine.scripts.append(reply)
        assert ask(engine) == "An answer."
        assert all(server.asked for server in servers)


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "90"}])
def test_an_engine_with_too_much_to_do_is_passed_over_for_one_that_has_time(
    headers: dict[str, str], serve: Serve, connect: Connect
) -> None:
    servers = [serve(), serve()]
    engine = connect(*(server.url for server in servers))
    wait_until(lambda: engine.status().device.startswith("2 of 2"))
    ask(engine)
    mine, other = sorted(servers, key=lambda server: -len(server.asked))
    mine.scripts.append(refusal(429, "", **headers))
    assert ask(engine) == "An answer."
    assert (len(mine.asked), len(other.asked)) == (2, 1)
    mine.scripts.append(refusal(429, "", Retry_After="0"))  # so short that it is waited for
    assert ask(engine) == "An answer."
    assert (len(mine.asked), len(other.asked)) == (4, 1)
    mine.scripts.append(refusal(429, "", **headers))
    other.scripts.append(refusal(429, ""))
    _, error = read_all(engine.stream(question()))
    assert isinstance(error, EngineBusy)
    assert engine.status().device.startswith("2 of 2")  # busy is not dead


def test_after_a_word_the_text_stays_and_the_next_question_goes_elsewhere(
    serve: Serve, connect: Connect
) -> None:
    broken = Reply((ROLE, word("Once upon"), Cut(hard=True)))
    servers = [serve(usual=broken), serve(usual=broken)]
    engine = connect(*(server.url for server in servers), patience=replace(QUICK, watch_s=60))
    text, error = read_all(engine.stream(question()))
    assert text == "Once upon" and isinstance(error, BrokenOff)
    assert "another engine goes on" in str(error)
    other = next(server for server in servers if not server.asked)
    other.usual = ANSWER
    assert ask(engine) == "An answer."


def test_the_last_engine_says_that_no_other_is_there(serve: Serve, connect: Connect) -> None:
    server = serve(usual=Reply((word("Once"), Cut())))
    _, error = read_all(connect(server.url).stream(question()))
    assert "ask again when the engine is back" in str(error)


def test_all_dead_is_told_with_a_reason(serve: Serve, connect: Connect) -> None:
    servers = [serve(), serve()]
    engine = connect(*(server.url for server in servers))
    for server in servers:
        server.kill()
    wait_until(lambda: engine.status().state is State.FAILED)
    _, error = read_all(engine.stream(question()))
    assert isinstance(error, EngineFailed) and "None of 2 engines answers" in str(error)
    assert "refuses the connection" in engine.status().reason


def test_eight_conversations_survive_an_engine_killed_in_mid_stream(
    serve: Serve, connect: Connect
) -> None:
    """None is lost, all go on; the share of prefix hits before and after is what is told."""
    go = Event()
    slow = Reply((ROLE, word("Once "), go, word("upon."), word("", "stop"), usage(60, 2, 40)))
    servers = [serve(usual=slow), serve(usual=slow)]
    engine = connect(*(server.url for server in servers))
    wait_until(lambda: engine.status().device.startswith("2 of 2"))
    talks = [Conversation((Turn(f"story {number}"),)) for number in range(8)]
    streams = [engine.stream(Request(talk, session=f"{n}")) for n, talk in enumerate(talks)]
    wait_until(lambda: sum(len(server.asked) for server in servers) == 8)
    for stream in streams:
        wait_until(lambda stream=stream: stream.take(0) == "Once ")  # type: ignore[misc]
    victim, other = sorted(servers, key=lambda server: -len(server.asked))
    hit = len(victim.asked)
    assert hit >= 1
    victim.kill()
    go.set()
    with ThreadPoolExecutor(8) as readers:
        ended = list(readers.map(read_all, streams))
    broken = [talk for talk, (_, error) in zip(talks, ended, strict=True) if error is not None]
    assert len(broken) == hit
    assert all(isinstance(error, BrokenOff) for _, error in ended if error is not None)
    assert all(text == "upon." for text, error in ended if error is None)
    other.usual = ANSWER
    for number, talk in enumerate(talks):  # all go on: the broken ones retry, the others follow up
        again = talk if talk in broken else talk.answered(Answer("Once upon.")).asked(Turn("And?"))
        stream = engine.stream(Request(again, session=f"{number}"))
        assert "".join(stream) == "An answer."
        assert stream.statistics is not None and stream.statistics.cached_tokens == 40


def test_an_engine_joins_and_leaves_by_the_file(
    serve: Serve, connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    servers = [serve(), serve()]
    file = tmp_path / "engines"
    file.write_text(f"# ours\n{servers[0].url}\n\n")
    engine = connect(engines_file=str(file))
    ask_all(engine, TALKS[:8])
    assert not servers[1].asked
    write(file, f"{servers[0].url}\n{servers[1].url}  # new\n")
    wait_until(lambda: engine.status().device.startswith("2 of 2"))
    ask_all(engine, TALKS)
    assert servers[1].asked
    for nonsense in ("", "not an address\n"):
        write(file, nonsense)
        wait_until(lambda: "stay as they were" in caplog.text)
        caplog.clear()
        assert engine.status().device.startswith("2 of 2")
    write(file, f"{servers[1].url}\n")
    wait_until(lambda: engine.status().device.startswith("vLLM at"))
    servers[0].asked.clear()
    ask_all(engine, TALKS)
    assert not servers[0].asked


def write(file: Path, text: str) -> None:
    """Replace the file as careful programs do."""
    new = file.with_suffix(".new")
    new.write_text(text)
    os.replace(new, file)


def test_a_list_that_cannot_be_read_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="--engines-file"):
        Listing(tmp_path / "none").read()
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(BadSetting, match="is empty"):
        Listing(tmp_path / "empty").read()


def test_a_busy_engine_that_answers_a_look_late_is_not_given_up_at_once(
    serve: Serve, connect: Connect
) -> None:
    server = serve()
    engine = connect(server.url, patience=replace(QUICK, look_s=0.2, watch_s=0.01))
    looks = len(server.looks)
    server.models = Reply((0.5,), 200, "application/json")
    wait_until(lambda: len(server.looks) >= looks + 2)
    assert engine.status().state is State.READY
    wait_until(lambda: engine.status().state is State.FAILED)
    server.models = refusal(200, models())
    wait_until(lambda: engine.status().state is State.READY)


def test_the_key_of_a_conversation_changes_with_its_beginning_alone() -> None:
    talk = Conversation((Turn("a"),))
    longer = talk.answered(Answer("b")).asked(Turn("c"))
    assert key_of("one", talk) == key_of("one", longer)
    others = [key_of("two", talk), key_of("one", Conversation((Turn("b"),)))]
    others.append(key_of("one", talk.instructed("Be short.")))
    assert len({key_of("one", talk), *others}) == 4
