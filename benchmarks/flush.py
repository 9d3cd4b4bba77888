"""Flushing: what it costs the server to show some new words, with few and many messages above.

The served page is asked by HTTP as a browser does it, with an engine that only writes words. CPU
time of this process from one flush to another, the reading side included; neighbours hardly count.
The rival for 0 messages is the page itself, and for many what is usual: a chatbot that is given
its whole history each time.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import gradio as gr

from backend.conversation import Answer, Conversation, Turn
from backend.settings import Settings
from benchmarks.measurement import (
    Measurement,
    Pair,
    at_most,
    ours_of,
    rival_of,
    share_of,
    times_better,
)
from benchmarks.scripted import PACE_S, ScriptedEngine
from benchmarks.tab import Tab, launched, serve
from tests.waiting import free_port
from ui.sessions import Sessions

FEW, MANY = 20, 100  # messages: questions and answers
ROUNDS, QUICK_ROUNDS = 9, 2
GOAL = 1.5  # times the cost of an empty page
FIRST, LAST = 5, 35  # the flushes between which time is taken; the first ones draw the page
WORDS = 60  # of the answer, so that it goes on beyond the last of them
FLUSHED = "process_generating"  # how Gradio calls one
UNIT = "ms of CPU"
QUESTION = "What stands on the left?"
ANSWER = "A **red circle** stands on the left, and a blue square is above it. " * 5


def measure(quick: bool) -> Iterator[Measurement]:
    """CPU time per flush at 20 and 100 messages."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    sessions = Sessions()
    with ExitStack() as stack:
        port = stack.enter_context(serve(ScriptedEngine(WORDS), None, sessions))
        usual = free_port()
        stack.enter_context(launched(lambda: usual_page(MANY), Settings(port=usual)))
        flush(port, sessions, 0)  # the first of all is slower
        tried = [
            (
                flush(port, sessions, 0),
                flush(port, sessions, FEW),
                flush(port, sessions, MANY),
                flush(usual, None, MANY),
            )
            for _ in range(rounds)
        ]
    few = [Pair(with_few, empty) for empty, with_few, _, _ in tried]
    many = [Pair(with_many, empty) for empty, _, with_many, _ in tried]
    yield report_growth(FEW, few)
    yield report_growth(MANY, many)
    yield report_usual([Pair(with_many, whole) for _, _, with_many, whole in tried])


def report_growth(messages: int, pairs: Sequence[Pair]) -> Measurement:
    """Against the empty page."""
    ratio = share_of(pairs)
    return Measurement(
        f"flush with {messages} messages, rival: with none",
        UNIT,
        ours_of(pairs, 1e3),
        rival_of(pairs, 1e3),
        ratio,
        at_most(ratio.median, GOAL),
    )


def report_usual(pairs: Sequence[Pair]) -> Measurement:
    """Against a chatbot that is given everything each time."""
    return Measurement(
        f"flush with {MANY} messages, rival: a chatbot given its whole history",
        UNIT,
        ours_of(pairs, 1e3),
        rival_of(pairs, 1e3),
        times_better(pairs),
    )


def flush(port: int, sessions: Sessions | None, messages: int) -> float:
    """Seconds of CPU for one flush, in a new tab whose chat has so many messages."""
    tab = Tab(port)
    if sessions is not None:
        sessions.of(tab.session).conversation = make_conversation(messages)
    tab.ask(QUESTION)
    tab.wait_for(FLUSHED, FIRST)
    begun = time.process_time()
    tab.wait_for(FLUSHED, LAST)
    spent = time.process_time() - begun
    tab.wait_until_free()
    tab.close()
    return spent / (LAST - FIRST)


def make_conversation(messages: int) -> Conversation:
    """A chat of so many messages, questions and answers counted."""
    turn = Turn(QUESTION, answer=Answer(ANSWER))
    return Conversation((turn,) * (messages // 2))


def usual_page(messages: int) -> gr.Blocks:
    """A page as demos have it, with so many messages; its events are named as ours."""
    history: list[Any] = [
        {"role": role, "content": text}
        for turn in make_conversation(messages).turns
        for role, text in (("user", turn.question), ("assistant", ANSWER))
    ]

    def follow() -> Iterator[list[Any]]:
        written = ""
        for number in range(WORDS):
            written += f"word{number} "
            yield [*history, {"role": "assistant", "content": written}]
            time.sleep(PACE_S)

    page: gr.Blocks = gr.Blocks(analytics_enabled=False)
    with page:
        question, chat = gr.Textbox(), gr.Chatbot(history)
        asked = question.submit(lambda _: None, question, None, api_name="ask", queue=False)
        followed = asked.then(follow, None, chat, api_name="follow")
        followed.then(lambda: None, None, None, api_name="settle", queue=False)
    return page
