"""Printed objects have the promised keys, and nothing an answer holds can steer a terminal."""

import json
from dataclasses import replace

from backend.conversation import Answer, End, Turn
from terminal.report import conversation_object, harmless, statistics_line, write_json
from tests.terminal.answers import ANSWERED, COST


def test_the_object_of_a_conversation_has_the_promised_keys() -> None:
    assert conversation_object("bundled", [ANSWERED, Turn("Not answered")]) == {
        "model": "bundled",
        "turns": [
            {
                "question": "What is this?",
                "answer": "一只 red panda.",
                "token_ids": [5, 6, 7],
                "prompt_tokens": 2598,
                "visual_tokens": 2560,
                "new_tokens": 3,
                "ttft_s": 0.412,
                "tokens_per_s": 31.42,
                "end": "eos",
            }
        ],
    }


def test_an_answer_that_never_began_counts_as_stopped() -> None:
    report = conversation_object("m", [Turn("Q", answer=Answer(""))])
    assert isinstance(report["turns"], list)
    assert report["turns"][0]["end"] == "stopped"
    assert report["turns"][0]["new_tokens"] == 0


def test_json_keeps_every_script_as_it_is() -> None:
    text = write_json({"answer": "红色 🟥 \x1b ﷽"})
    assert "红色 🟥" in text
    assert json.loads(text) == {"answer": "红色 🟥 \x1b ﷽"}


def test_the_line_under_an_answer_tells_costs_and_why_it_ended() -> None:
    assert statistics_line(COST) == (
        "2,560 visual + 38 text tokens · first word 0.41 s · 3 new tokens, 31.4 a second"
    )
    assert statistics_line(replace(COST, end=End.LENGTH)).endswith("(--max-new-tokens)")
    assert statistics_line(replace(COST, end=End.STOPPED)).endswith("stopped by you")
    kept = statistics_line(replace(COST, cached_tokens=1200))
    assert " text tokens · 1,200 of them read before · first word" in kept


def test_control_characters_are_shown_instead_of_obeyed() -> None:
    assert harmless("a\x1b[2J\r\x07\x7f\x9b0m") == "a␛[2J␍␇␡\ufffd0m"
    assert harmless("a\tb\n一 🟥") == "a\tb\n一 🟥"
