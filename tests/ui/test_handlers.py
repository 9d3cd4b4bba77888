"""Asking, stopping, retrying, undoing: what the session keeps and what the page is told."""

import asyncio
import threading

import gradio as gr
import pytest

from backend.conversation import End
from backend.engine import State
from backend.errors import OutOfMemory
from tests.ui.conftest import Desk, changed, panel, texts
from ui.examples import Example
from ui.handlers import find_example

FAILURE = OutOfMemory("The device has no room for 26 tiles.", "Use 6 tiles.")
INDENTED = "  first\n\tsecond\n\n    third <ref>a</ref>  \n"


def test_an_answer_stands_in_the_chat_byte_for_byte(desk):
    desk.engine.enqueue([INDENTED[:9], INDENTED[9:]])
    page = desk.converse("What is here?")
    assert INDENTED in texts(page["history"])
    assert desk.session().conversation.turns[0].answer.text == INDENTED


def test_asking_shows_the_question_and_empties_the_box(desk, files):
    desk.drop(files / "wide.png")
    page = desk.ask("What <b>is</b> here?")
    assert "What &lt;b&gt;is&lt;/b&gt; here?" in texts(page["history"])[0]
    assert (page["question"], page["tray"], page["notice"]) == ("", "", "")
    assert page["stop"]["visible"] and not page["send"]["visible"]


def test_the_engine_gets_the_chat_with_its_files_and_settings(desk, files):
    desk.converse("one")
    desk.drop(files / "wide.png")
    desk.converse("two", system="Be brief.", temperature=0.7, seed="5", max_tiles=3, max_new=64)
    request = desk.engine.requests[-1]
    assert [turn.question for turn in request.conversation.turns] == ["one", "two"]
    assert request.conversation.system == "Be brief."
    assert request.conversation.turns[1].attachments[0].max_tiles == 3
    assert (request.sampling.temperature, request.sampling.seed) == (0.7, 5)
    assert request.sampling.max_new_tokens == 64


def test_a_picture_s_own_number_of_tiles_wins_over_the_panel(desk, files):
    picture = desk.drop(files / "wide.png")
    from dataclasses import replace

    desk.session().change(1, replace(picture, max_tiles=2))
    desk.ask("?", max_tiles=9)
    assert desk.engine.requests[0].conversation.turns[0].attachments[0].max_tiles == 2


def test_a_flush_changes_the_answer_and_the_progress_alone(desk):
    desk.engine.enqueue(["one ", 0.15, "two"])
    desk.ask("?")
    flushes = desk.follow()
    assert all(len(values) == 2 for values in flushes)
    assert texts(flushes[-1][0]) == ["one two"]


def test_silence_is_broken_by_a_flush_so_that_a_closed_tab_can_end_it(desk):
    desk.engine.enqueue([0.9, "late"])
    desk.ask("?")
    assert len(desk.follow()) >= 4


@pytest.mark.parametrize("script", [[FAILURE], ["some ", 0.1, FAILURE]])
def test_a_failure_gives_back_the_question_and_its_files(desk, files, script):
    desk.drop(files / "wide.png")
    desk.engine.enqueue(script)
    page = desk.converse("What is here?")
    assert page["question"] == "What is here?"
    assert "wide.png" in page["tray"]
    assert "no room for 26 tiles" in page["notice"] and "Use 6 tiles." in page["notice"]
    assert page["history"] == [] and not desk.session().conversation.turns


def test_the_text_before_a_failure_is_kept_in_the_notice(desk):
    desk.engine.enqueue(["half an ", 0.1, FAILURE])
    assert "half an" in desk.converse("?")["notice"]


def test_a_failure_that_nobody_foresaw_loses_nothing_and_tells_no_internals(desk):
    desk.engine.enqueue(["a", KeyError("/secret/path")])
    page = desk.converse("What is here?")
    assert page["question"] == "What is here?"
    assert "secret" not in page["notice"] and "try again" in page["notice"]


def test_what_was_typed_meanwhile_is_not_overwritten_by_a_question_that_comes_back(desk):
    desk.engine.enqueue([FAILURE])
    desk.ask("first")
    desk.session().typed = "second"
    desk.follow()
    assert desk.settle()["question"] == "first\nsecond"


def test_a_broken_engine_says_why_before_anything_is_taken(desk, files):
    desk.drop(files / "wide.png")
    desk.engine.become(State.FAILED, reason="The weights are damaged.")
    page = desk.ask("What is here?")
    assert "weights are damaged" in page["notice"]
    assert "question" not in page and len(desk.session().drafts) == 1


def stop_when(desk: Desk, ready, name: str = "one") -> threading.Thread:
    """Press Stop as soon as `ready` holds."""

    def press() -> None:
        while not ready():
            threading.Event().wait(0.01)
        desk.chat.stop(desk.browser(name))

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    return thread


def test_stop_keeps_the_text_so_far(desk):
    desk.engine.enqueue(["Once upon ", 30.0, "a time"])
    desk.ask("Tell a story.")
    stop_when(desk, lambda: desk.engine.streams[0].token_ids)
    desk.follow()
    page = desk.settle()
    answer = desk.session().conversation.turns[0].answer
    assert answer.text == "Once upon " and answer.statistics.end is End.STOPPED
    assert "stopped by you" in texts(page["history"])[-1]
    assert desk.engine.streams[0].closed


def test_stop_before_the_first_word_gives_back_the_question(desk):
    desk.engine.enqueue([30.0, "late"])
    desk.ask("Tell a story.")
    stop_when(desk, lambda: True)
    desk.follow()
    page = desk.settle()
    assert page["question"] == "Tell a story."
    assert "before the first word" in page["notice"]


def test_an_answer_without_a_word_is_an_answer(desk):
    desk.engine.enqueue([])
    desk.converse("?")
    assert desk.session().conversation.turns[0].answer.text == ""


def test_stop_after_the_end_and_twice_changes_nothing(desk):
    desk.converse("?")
    before = desk.session().conversation
    desk.chat.stop(desk.browser())
    desk.chat.stop(desk.browser())
    assert desk.session().conversation == before
    assert desk.converse("again")["notice"] == ""


def test_stop_of_another_session_stops_nothing(desk):
    desk.engine.enqueue(["all of ", 0.3, "it"])
    desk.ask("?")
    desk.chat.stop(desk.browser("two"))
    desk.follow()
    assert desk.session().conversation.turns[0].answer.text == "all of it"


def test_a_second_press_of_send_asks_once(desk):
    desk.engine.enqueue([0.3, "answer"])
    desk.ask("?")
    assert desk.ask("?") == {}
    desk.follow()
    desk.settle()
    assert len(desk.engine.requests) == 1


def test_the_chain_of_a_second_press_leaves_the_first_alone(desk):
    desk.engine.enqueue([0.4, "answer"])
    desk.ask("?")

    async def both() -> None:
        first = asyncio.create_task(drain(desk))
        await asyncio.sleep(0.1)
        assert len(await drain(desk)) == 1
        assert changed(desk.chat.settle(desk.browser())) == {}
        await first

    asyncio.run(both())
    assert desk.session().conversation.turns[0].answer.text == "answer"


def test_the_chain_of_a_refused_question_streams_nothing_and_leaves_the_notice(desk):
    assert desk.ask(" ")["notice"]
    assert desk.follow() == [[gr.skip(), gr.skip()]]
    assert desk.settle() == {"live": [], "progress": ""}


async def drain(desk: Desk, name: str = "one") -> list:
    return [values async for values in desk.chat.follow(desk.browser(name))]


def test_the_boxes_of_an_answer_are_drawn_once_it_has_ended(desk, files):
    desk.drop(files / "wide.png")
    desk.engine.enqueue(["<ref>circle</ref><box>[[0, 0, 500, 500]]</box>"])
    page = desk.converse("Where is it?")
    (answer,) = desk.session().overlays
    assert answer == desk.session().conversation.turns[0].answer
    assert 'class="boxes"' in texts(page["history"])[-1]


def test_undo_while_an_answer_is_written_does_nothing(desk):
    desk.converse("?")
    desk.engine.enqueue([0.3, "answer"])
    desk.ask("two")
    assert changed(desk.chat.undo("", desk.browser())) == {}
    desk.follow()
    desk.settle()
    assert [turn.question for turn in desk.session().conversation.turns] == ["?", "two"]


def test_an_example_is_found_by_its_number_and_by_nothing_else():
    examples = (Example("first", ()), Example("second", ()))
    assert [find_example(examples, {"example": number}) for number in (0, 1)] == [*examples]
    for odd in ({"example": -1}, {"example": 2}, {"example": "0"}, {}, None):
        assert find_example(examples, odd) is None


def test_retry_while_an_answer_is_written_does_nothing(desk):
    desk.converse("?")
    desk.engine.enqueue([0.3, "answer"])
    desk.ask("two")
    assert changed(desk.chat.retry(desk.browser(), *panel())) == {}
    assert len(desk.engine.requests) == 2


def test_retry_answers_the_last_question_anew(desk):
    desk.engine.enqueue(["first"])
    desk.converse("?")
    desk.engine.enqueue(["second"])
    desk.chat.retry(desk.browser(), *panel(temperature=1.0))
    desk.follow()
    page = desk.settle()
    assert [turn.answer.text for turn in desk.session().conversation.turns] == ["second"]
    assert desk.engine.requests[1].sampling.temperature == 1.0
    assert "question" not in page


def test_a_retry_that_fails_keeps_the_former_answer(desk):
    desk.engine.enqueue(["first"])
    desk.converse("?")
    desk.engine.enqueue(["sec", FAILURE])
    desk.chat.retry(desk.browser(), *panel())
    desk.follow()
    page = desk.settle()
    assert desk.session().conversation.turns[0].answer.text == "first"
    assert "no room" in page["notice"] and "question" not in page


def test_retry_without_a_chat_does_nothing(desk):
    assert changed(desk.chat.retry(desk.browser(), *panel())) == {}
    assert not desk.engine.requests


def test_undo_puts_the_last_question_and_its_files_back(desk, files):
    desk.converse("one")
    desk.drop(files / "wide.png")
    desk.converse("two")
    page = changed(desk.chat.undo("three", desk.browser()))
    assert page["question"] == "two\nthree" and "wide.png" in page["tray"]
    assert [turn.question for turn in desk.session().conversation.turns] == ["one"]


def test_undo_of_an_empty_chat_does_nothing(desk):
    assert changed(desk.chat.undo("typed", desk.browser())) == {}


def test_clear_while_an_answer_is_written_leaves_an_empty_chat(desk):
    desk.engine.enqueue(["some ", 30.0])
    desk.ask("?")

    async def clear_meanwhile() -> None:
        following = asyncio.create_task(drain(desk))
        await asyncio.sleep(0.15)
        page = changed(desk.chat.clear(desk.browser()))
        assert page["history"] == [] and page["send"]["visible"]
        await following

    asyncio.run(clear_meanwhile())
    page = desk.settle()
    assert page == {"live": [], "progress": ""}
    assert not desk.session().conversation.turns and desk.engine.streams[0].closed


@pytest.mark.parametrize("silent", [True, False])
def test_a_closed_tab_ends_the_stream_and_keeps_what_there_is(desk, silent):
    desk.engine.enqueue([30.0] if silent else ["some ", 30.0])
    desk.ask("?")

    async def close_tab() -> None:
        following = asyncio.create_task(drain(desk))
        await asyncio.sleep(0.15)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following

    asyncio.run(close_tab())
    assert desk.engine.streams[0].closed
    assert desk.session().running is None
    assert len(desk.session().conversation.turns) == (0 if silent else 1)


def test_two_sessions_never_mix(desk):
    desk.engine.enqueue(["apple ", 0.2, "apple"])
    desk.engine.enqueue(["pear ", 0.2, "pear"])
    desk.ask("a", "one")
    desk.ask("b", "two")

    async def both() -> None:
        await asyncio.gather(drain(desk, "one"), drain(desk, "two"))

    asyncio.run(both())
    assert "pear" not in str(desk.settle("one")["history"])
    assert "apple" not in str(desk.settle("two")["history"])


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("temperature", -1, "temperature"),
        ("temperature", float("nan"), "temperature"),
        ("top_p", 2, "top-p"),
        ("top_k", 1.5, "top-k"),
        ("penalty", "high", "repetition penalty"),
        ("max_new", 0, "max new tokens"),
        ("max_new", 10**9, "max new tokens"),
        ("seed", "-3", "seed"),
        ("seed", "1" * 30, "seed"),
        ("max_tiles", 41, "max tiles"),
        ("max_tiles", float("inf"), "max tiles"),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(desk, setting, value, named):
    page = desk.ask("?", **{setting: value})
    assert named in page["notice"]
    assert "question" not in page and not desk.engine.requests


@pytest.mark.parametrize("question", ["", "  \n", None])
def test_nothing_to_answer_is_said(desk, question):
    assert "no question" in desk.ask(question)["notice"]
    assert not desk.engine.requests


def test_files_alone_are_a_question(desk, files):
    desk.drop(files / "wide.png")
    desk.converse("")
    assert len(desk.engine.requests) == 1


def test_an_example_that_is_none_is_ignored(desk):
    for data in (None, {}, {"example": 99}, {"example": "0"}, {"example": -1}):
        event = gr.EventData(None, data)
        assert changed(desk.chat.try_example(event, desk.browser(), *panel())) == {}
