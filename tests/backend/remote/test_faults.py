"""Every fault of an engine elsewhere has its own message, and the next question works."""

import re
import ssl
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path

import httpx
import pytest

from backend.engine import State
from backend.errors import BadInput, BrokenOff, EngineBusy, EngineError, EngineFailed, TooLong
from backend.remote import faults
from backend.remote.node import read_wait
from tests.backend.remote.conftest import HASTY, QUICK, Connect, Serve, ask, question, read_all
from tests.backend.remote.scripted_server import (
    DONE,
    JSON,
    ROLE,
    Cut,
    Reply,
    ScriptedServer,
    event,
    refusal,
    transcript,
    usage,
    word,
)
from tests.deploy.proxy import make_certificate
from tests.waiting import wait_until

FIVE_SHAPES = (
    {"error": {"message": "The pump broke.", "type": "x", "code": 500}},
    {"error": "The pump broke."},
    {"object": "error", "message": "The pump broke.", "code": 500},
    {"detail": "The pump broke."},
    {"detail": [{"type": "x", "loc": ["body"], "msg": "The pump broke."}]},
)
BEGUN = (ROLE, word("Once "), word("upon"))
FOREVER = replace(QUICK, first_s=600, between_s=600)
HANG = threading.Event()  # never set: the engine just says nothing more

# (what the engine does, the kind of error, words of its message, whether text came before it)
FAULTS: dict[str, tuple[Reply, type[EngineError], str, str]] = {
    "401": (refusal(401, {"error": {"message": "no"}}), faults.NotAllowed, "wants a key", ""),
    "403": (refusal(403, ""), faults.NotAllowed, "--api-key-file", ""),
    "404 model": (transcript("vllm-hf", "unknown_model"), faults.NoSuchModel, "not serve tiny", ""),
    "404 route": (refusal(404, {"detail": "Not Found"}), EngineFailed, "no chat at this addr", ""),
    "413": (refusal(413, "<html>nginx</html>", "text/html"), BadInput, "too large", ""),
    "429": (refusal(429, {"error": "slow down"}), EngineBusy, "too much to do (slow down)", ""),
    "429 long": (refusal(429, "", Retry_After="90"), EngineBusy, "Ask again in 90 s", ""),
    "500": (transcript("transformers-serve", "bad_image"), faults.Broken, "status 500", ""),
    "502 page": (refusal(502, "<html>x</html>", "text/html"), faults.Broken, "failed with st", ""),
    "503": (refusal(503, {"error": {"message": "Loading model"}}), EngineFailed, "not ready", ""),
    "redirect": (refusal(307, "", location="http://other/"), EngineFailed, "sends the qu", ""),
    "silence": (Reply((HANG,)), faults.Silent, "0.6 s before the first word", ""),
    "only a role": (Reply((ROLE, HANG)), faults.Silent, "was silent for 0.6 s before", ""),
    "silence later": (Reply((*BEGUN, HANG)), BrokenOff, "silent for 0.6 s in mid", "Once upon"),
    "cut": (Reply((*BEGUN, Cut())), BrokenOff, "broke off in mid-answer", "Once upon"),
    "reset": (Reply((*BEGUN, Cut(hard=True))), BrokenOff, "broke off", "Once upon"),
    "a clean end too early": (Reply(BEGUN), BrokenOff, "broke off", "Once upon"),
    "cut before a word": (Reply((ROLE, Cut())), faults.Lost, "hung up", ""),
    "no answer at all": (Reply((Cut(),)), faults.Lost, "hung up", ""),
    "broken JSON": (Reply((b'data: {"choices": [\n\n',)), faults.Broken, "else than a chat", ""),
    "broken later": (Reply((*BEGUN, b"data: nonsense\n\n")), BrokenOff, "no JSON", "Once upon"),
    "a page": (Reply((b"<html>",), 200, "text/html"), faults.Broken, "text/html", ""),
    "other JSON": (Reply((b'{"a": 1}',), 200, JSON), faults.Broken, "no choices", ""),
    "error in stream": (transcript("transformers-serve", "stop"), faults.Broken, "get_vocab", ""),
    "error later": (Reply((*BEGUN, event({"error": "Boom"}))), BrokenOff, "(Boom)", "Once upon"),
    "aborted": (Reply((*BEGUN, word("", "abort"))), BrokenOff, "'abort'", "Once upon"),
    "too long, vLLM": (transcript("vllm-hf", "too_long"), TooLong, "longer than", ""),
    "too long, SGLang": (transcript("sglang-original", "too_long"), TooLong, "12049", ""),
    "too long, llama.cpp": (transcript("llama.cpp", "too_long"), TooLong, "12012", ""),
    "too many pictures": (transcript("vllm-hf", "many_images"), BadInput, "fewer pictures", ""),
    "bad request": (transcript("transformers-serve", "bad_json"), EngineFailed, "decode error", ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_own_message_and_the_next_question_works(
    name: str, server: ScriptedServer, connect: Connect
) -> None:
    reply, kind, said, text = FAULTS[name]
    engine = connect(server.url, patience=HASTY if "0.6 s" in said else QUICK)
    server.scripts.append(reply)
    came, error = read_all(engine.stream(question()))
    assert isinstance(error, kind) and came == text
    assert said in str(error) and error.advice, str(error)
    assert re.search(r"127\.0\.0\.1:\d+", str(error))
    wait_until(lambda: engine.status().state is State.READY)  # a lost one is found by a look
    assert ask(engine) == "An answer."


def test_no_two_faults_share_a_message() -> None:
    causes = [said for _, _, said, _ in FAULTS.values() if said not in ("broke off", "hung up")]
    assert len(set(causes)) >= 25


@pytest.mark.parametrize("body", FIVE_SHAPES)
def test_five_shapes_of_error_body_are_read(body: object, server: ScriptedServer, engine) -> None:
    server.scripts.append(refusal(500, body))
    _, error = read_all(engine.stream(question()))
    assert "(The pump broke.)" in str(error)


def test_a_plain_text_error_is_read(server: ScriptedServer, engine) -> None:
    server.scripts.append(refusal(500, "The pump broke.", "text/plain"))
    assert "(The pump broke.)" in str(read_all(engine.stream(question()))[1])


def test_a_refused_connection_an_unknown_name_and_an_unused_address(connect: Connect) -> None:
    for url, said in (
        ("http://127.0.0.1:9/v1", "127.0.0.1:9 refuses the connection"),
        ("http://no-such-machine.invalid:1/v1", "No machine is known"),
    ):
        engine = connect(url, ready=False)
        _, error = read_all(engine.stream(question()))
        assert isinstance(error, EngineFailed) and said in str(error)
        assert said in engine.status().reason


def test_a_certificate_that_does_not_hold_and_a_server_without_tls(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    make_certificate(tmp_path)
    secure = serve()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    secure._server.socket = context.wrap_socket(secure._server.socket, server_side=True)
    for server, said in ((secure, "its certificate does not hold"), (serve(), "not speak TLS")):
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        engine = connect(url, ready=False)
        _, error = read_all(engine.stream(question()))
        assert isinstance(error, faults.Unreachable) and said in str(error)
        assert not server.asked and not server.looks


def test_a_machine_that_does_not_answer_and_one_without_a_way_there() -> None:
    silent = faults.explain_connection(httpx.ConnectTimeout(""), "llm:8000")
    away = faults.explain_connection(httpx.ConnectError("no route"), "llm:8000")
    assert str(silent).startswith("llm:8000 cannot be reached.") and "port is open" in str(silent)
    assert str(away).startswith("llm:8000 cannot be reached.") and "Start the engine" in str(away)


def test_an_engine_that_is_started_later_is_found(serve: Serve, connect: Connect) -> None:
    server = serve()
    server.kill()
    engine = connect(server.url, ready=False)
    assert isinstance(read_all(engine.stream(question()))[1], faults.Unreachable)
    server.start()
    wait_until(lambda: engine.status().state is State.READY)
    assert ask(engine) == "An answer."


def test_a_short_retry_after_is_waited_for(server: ScriptedServer, engine) -> None:
    server.scripts.extend([refusal(429, "", Retry_After="0"), refusal(503, "", Retry_After="0.1")])
    assert ask(engine) == "An answer."
    assert len(server.asked) == 3


def test_a_retry_after_may_be_a_date() -> None:
    assert read_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    later = datetime.now(UTC) + timedelta(hours=1)
    told = read_wait(format_datetime(later, usegmt=True))
    assert told is not None and 3000 < told <= 3600
    assert (read_wait(" 7 "), read_wait("0.5")) == (7, 0.5)
    for odd in (
        "",
        "soon",
        "-3",
        "1e9",
        "Wed, 99 Oct 2015 07:28:00 GMT",
        "21 Oct 2015 07:28 -0000",
    ):
        assert read_wait(odd) is None


def test_a_retry_after_is_not_waited_for_for_ever(server: ScriptedServer, engine) -> None:
    server.scripts.extend([refusal(429, "", Retry_After="0")] * 9)
    assert isinstance(read_all(engine.stream(question()))[1], EngineBusy)
    assert len(server.asked) == 4


def test_a_stream_without_done_or_usage_is_an_answer(server: ScriptedServer, engine) -> None:
    server.scripts.append(Reply((ROLE, word("Yes.", "length"))))
    stream = engine.stream(question())
    assert "".join(stream) == "Yes."
    assert stream.statistics is not None and stream.statistics.new_tokens == 1


def test_an_engine_that_never_closes_after_the_end_is_left(
    server: ScriptedServer, connect: Connect
) -> None:
    engine = connect(server.url, patience=FOREVER)
    server.scripts.append(Reply((ROLE, word("Yes.", "stop"), HANG)))
    assert ask(engine) == "Yes."


def test_a_connection_is_used_again_once_an_answer_has_ended(
    server: ScriptedServer, connect: Connect
) -> None:
    engine = connect(server.url, patience=replace(FOREVER, watch_s=60))
    for _ in range(5):
        assert ask(engine) == "An answer."
    assert server.met <= 2


def test_a_connection_that_stays_open_after_done_is_left(
    server: ScriptedServer, connect: Connect
) -> None:
    engine = connect(server.url, patience=FOREVER)
    server.scripts.append(Reply((word("Yes.", "stop"), DONE, HANG)))
    assert ask(engine) == "Yes."


def test_an_answer_in_one_piece_is_an_answer(server: ScriptedServer, engine) -> None:
    server.scripts.append(transcript("llama.cpp", "whole"))
    assert ask(engine)


def test_pieces_of_bytes_and_odd_line_ends_make_no_difference(
    server: ScriptedServer, engine
) -> None:
    whole = word("Größe 你好 ").replace(b"\n", b"\r\n") + b": ping\r\n\r\n" + word("!", "stop")
    whole += usage(7, 2, 3) + DONE
    server.scripts.append(Reply(tuple(whole[at : at + 1] for at in range(len(whole)))))
    stream = engine.stream(question())
    assert "".join(stream) == "Größe 你好 !"
    told = stream.statistics
    assert told is not None
    assert (told.prompt_tokens, told.new_tokens, told.cached_tokens) == (7, 2, 3)


def test_an_event_without_end_is_no_answer(server: ScriptedServer, engine) -> None:
    server.scripts.append(Reply((b"data: " + b"x" * 5_000_000,)))
    assert "else than a chat" in str(read_all(engine.stream(question()))[1])


def test_stop_closes_the_connection_at_once(server: ScriptedServer, connect: Connect) -> None:
    engine = connect(server.url, patience=FOREVER)
    for count, steps in enumerate(((HANG,), (*BEGUN, HANG)), start=1):
        server.scripts.append(Reply(steps))
        stream = engine.stream(question())
        wait_until(partial(lambda count: len(server.asked) == count, count))
        stream.close()
        wait_until(partial(lambda count: server.left == count, count))
    assert ask(engine) == "An answer."


def test_an_engine_that_lists_nothing_or_something_else_is_no_engine(
    serve: Serve, connect: Connect
) -> None:
    for reply in (
        refusal(200, {"data": []}),
        refusal(200, "<html>", "text/html"),
        refusal(200, ["no"]),
    ):
        engine = connect(serve(models=reply).url, ready=False)
        _, error = read_all(engine.stream(question()))
        assert "something else than a chat" in str(error)
