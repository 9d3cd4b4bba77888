"""What engines elsewhere bring to the page: greyed-out parts, broken-off answers, estimates."""

import asyncio
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from backend.checkpoint.facts import Layout
from backend.conversation import End
from backend.engine import Inability, State, Status
from backend.errors import BrokenOff, EngineFailed
from backend.prompt.budget import Budget
from backend.remote.dialects import Software, choose_dialect
from tests.ui.conftest import PANEL, Desk, texts
from ui import words
from ui.abilities import CONTROLS, grey
from ui.box import BoxHandlers
from ui.page import lay_out_settings
from ui.panels import draw_model


def test_controls_stand_in_the_order_of_the_page() -> None:
    async def lay_out() -> tuple[Any, ...]:
        with gr.Blocks(analytics_enabled=False):
            return lay_out_settings()

    # Gradio makes event loops where none runs, and never closes them.
    parts = asyncio.run(lay_out())
    assert [part.info for part in parts] == [control.info for control in CONTROLS]
    assert [part.value for part in parts] == [control.neutral for control in CONTROLS]
    assert len(PANEL) == len(CONTROLS)


def test_what_an_engine_cannot_do_is_greyed_out_with_the_reason_and_does_nothing() -> None:
    files, *parts = grey((Inability("top_k", "It is not taken."),))
    changed = dict(zip((control.what for control in CONTROLS), parts, strict=True))
    assert files["interactive"]
    assert changed["top_k"]["info"] == "It is not taken."
    assert (changed["top_k"]["interactive"], changed["top_k"]["value"]) == (False, 0)
    assert changed["top_p"]["interactive"] and "value" not in changed["top_p"]


def test_an_engine_that_takes_no_pictures_gets_none() -> None:
    assert not grey((Inability("image", "It is blind."),))[0]["interactive"]


@pytest.mark.parametrize("software", [Software.LLAMA, Software.TRANSFORMERS])
def test_that_boxes_lose_their_signs_stands_under_the_model(software: Software) -> None:
    unable = choose_dialect(software, Layout.HF).unable
    status = Status(State.READY, "8B", device="llm:8000", unable=unable)
    assert f"{software}" in draw_model(status)
    assert "signs of boxes; those amid other words are not drawn.</span>" in draw_model(status)
    assert "signs of boxes" not in draw_model(replace(status, unable=()))
    assert "signs of boxes" not in draw_model(replace(status, state=State.LOADING))


def test_a_reason_is_told_once_and_only_where_no_control_shows_it() -> None:
    blind = tuple(Inability(kind, "It is <blind>.") for kind in ("image", "video"))
    drawn = draw_model(Status(State.READY, "8B", unable=(*blind, Inability("seed", "No seed."))))
    assert drawn.count("It is &lt;blind&gt;.") == 1
    assert "No seed." not in drawn


def test_a_look_greys_out_once_and_gives_back_what_another_engine_can(desk: Desk) -> None:
    box = BoxHandlers(desk.engine, lambda: desk.composer, desk.sessions, lambda: "")
    box.look(desk.browser())
    assert box.look(desk.browser())[5:] == [gr.skip()] * (1 + len(CONTROLS))
    desk.engine.now = replace(desk.engine.now, unable=(Inability("seed", "No."),))
    seed = [control.what for control in CONTROLS].index("seed")
    assert box.look(desk.browser())[6 + seed]["interactive"] is False
    assert box.look(desk.browser())[5:] == [gr.skip()] * (1 + len(CONTROLS))
    desk.engine.now = replace(desk.engine.now, unable=())
    assert box.look(desk.browser())[6 + seed]["interactive"] is True


def test_of_an_answer_that_broke_off_the_text_stays_and_retry_asks_again(desk: Desk) -> None:
    desk.engine.enqueue(["Once upon", BrokenOff("llm:1 broke off.", "Ask again.")])
    shown = desk.converse("Tell a story.")
    assert "llm:1 broke off." in shown["notice"] and "Once upon" in texts(shown["history"])
    (turn,) = desk.session().conversation.turns
    assert turn.answer is not None and turn.answer.text == "Once upon"
    assert turn.answer.statistics is not None
    assert turn.answer.statistics.end is End.BROKEN_OFF
    desk.chat.retry(desk.browser(), *PANEL.values())
    desk.follow()
    assert texts(desk.settle()["history"])[1] == "An answer."


def test_an_answer_that_broke_off_before_a_word_gives_the_question_back(desk: Desk) -> None:
    desk.engine.enqueue([BrokenOff("llm:1 broke off.", "Ask again.")])
    assert desk.converse("Tell a story.")["question"] == "Tell a story."
    assert desk.session().conversation.turns == ()


def test_other_failures_still_give_the_question_back(desk: Desk) -> None:
    desk.engine.enqueue(["Once upon", EngineFailed("It failed.", "Ask again.")])
    shown = desk.converse("Tell a story.")
    assert shown["question"] == "Tell a story." and "Once upon" in shown["notice"]


def test_an_estimated_budget_says_so(desk: Desk) -> None:
    budget = Budget(text=10, visual=256, limit=32_768, images=1, videos=0, tiles=1)
    assert "estimate" not in words.budget_line(budget)
    assert "about 10 text tokens (an estimate" in words.budget_line(replace(budget, estimated=True))
