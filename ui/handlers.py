"""Events of the chat: ask, retry, stop, undo, clear; follow an answer, and settle when it ended.

Nothing a browser says about the chat is believed; it lives in `ui.sessions`. Asking is three
events in a row. `ask` begins and draws the question; `follow` streams into two small parts alone,
because Gradio builds every other output anew at each flush, even a skipped one; `settle` draws the
page at rest. Whatever happens to the tab in between, the session is whole.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import gradio as gr

from backend.conversation import Conversation, Request
from backend.engine import Engine
from backend.errors import BadQuestion, BrokenOff, EngineError
from backend.prompt.compose import Composer
from ui import words
from ui.boxes_overlay import draw_overlay
from ui.cards import Draft
from ui.choices import Choices, read_choices
from ui.examples import Example
from ui.messages import show, show_live
from ui.panels import draw_finished, draw_notice, draw_progress
from ui.sessions import Running, Session, Sessions, joined
from ui.tray import draw_tray
from ui.uploads import accepted, draw_card
from ui.view import STAYS, View, shown

FLUSH_S = 0.05  # 20 looks a second: smooth to the eye, little work for the server
SILENCE_S = 0.2  # at least this often a handler yields, so that a closed tab can end it
Values = list[Any]
logger = logging.getLogger(__name__)


class ChatHandlers:
    """What happens once a question is sent."""

    def __init__(
        self,
        engine: Engine,
        composer: Callable[[], Composer | None],
        sessions: Sessions,
        examples: Callable[[], tuple[Example, ...]],
    ) -> None:
        self._engine = engine
        self._composer = composer
        self._sessions = sessions
        self._examples = examples

    def ask(self, question: str, browser: gr.Request, *values: object) -> Values:
        """Send what is in the box; what is wrong with it is said and nothing is lost."""
        session = self._session(browser)
        drafts = session.drafts

        def begin() -> bool:
            choices = read_choices(*values)
            require_question(question, drafts)
            return self._begin(session, question, drafts, choices)

        return self._try(session, begin)

    def try_example(self, event: gr.EventData, browser: gr.Request, *values: object) -> Values:
        """Ask one of the examples as if it had been typed."""
        session = self._session(browser)
        example = find_example(self._examples(), event._data)
        if example is None:
            return View().values()
        drafts = tuple(Draft(-number, file.name, file) for number, file in enumerate(example.files))
        return self._try(
            session,
            lambda: self._begin(session, example.question, drafts, read_choices(*values)),
        )

    def retry(self, browser: gr.Request, *values: object) -> Values:
        """Answer the last question anew; on failure the former answer stays."""
        session = self._session(browser)

        def begin() -> bool:
            choices = read_choices(*values)
            if not session.conversation.turns:
                return False
            anew = session.conversation.unanswered().instructed(choices.system)
            return session.begin(self._engine, Request(anew, choices.sampling, session.key))

        return self._try(session, begin)

    async def follow(self, browser: gr.Request) -> AsyncGenerator[Values, None]:
        """Stream the answer that was begun → live, progress. Ends when it does."""
        session = self._session(browser)
        running = session.running
        if running is None or running.read:  # refused, or pressed twice
            yield [gr.skip(), gr.skip()]
            return
        running.read = True
        text, problem, broken_off = "", "", False
        try:
            async with aclosing(self._flushes(running)) as flushes:
                async for written, progress in flushes:
                    text = written
                    yield [show_live(text), progress]
            if not (text or running.finished):
                problem = draw_notice(words.STOPPED_EARLY, words.STOPPED_EARLY_ADVICE)
        except EngineError as error:
            broken_off = isinstance(error, BrokenOff)
            problem = draw_notice(error.cause, error.advice, "" if broken_off else text)
        except Exception:  # the page's border: whatever broke, the question must not be lost
            logger.exception("answering failed")
            problem = draw_notice(words.BROKEN, words.BROKEN_ADVICE, text)
        finally:  # also when the tab was closed, which ends this at an await or a yield
            session.end(running, text, problem, broken_off)

    def settle(self, browser: gr.Request) -> Values:
        """The page at rest: the answer in the chat, or what was asked back in the box."""
        session = self._session(browser)
        if session.running is not None:  # a second press; the first one's chain is under way
            return View().values()
        outcome, session.outcome = session.outcome, None
        if outcome is None:
            return View(live=[], progress="").values()
        if not outcome.problem:
            draw_boxes(session)
        view = View(
            question=outcome.question if outcome.question else STAYS,
            notice=outcome.problem,
            live=[],
            progress="" if outcome.problem else draw_finished(),
        )
        return self._at_rest(session, view).values()

    def stop(self, browser: gr.Request) -> None:
        """End the running answer; whoever follows it then settles."""
        self._session(browser).stop()

    def undo(self, typed: str, browser: gr.Request) -> Values:
        """Take the last turn back into the box."""
        session = self._session(browser)
        if session.running is not None or not session.conversation.turns:
            return View().values()
        turn = session.conversation.turns[-1]
        session.conversation = session.conversation.without_last()
        for file in reversed(turn.attachments):
            session.add_first(file)
        view = View(question=joined(turn.question, typed or ""), notice="", progress="")
        return self._at_rest(session, view).values()

    def clear(self, browser: gr.Request) -> Values:
        """Begin anew: the chat, the box and the running answer are gone."""
        self._session(browser).stop()
        self._sessions.begin_anew(browser.session_hash or "")
        view = View(question="", notice="", live=[], progress="")
        return self._at_rest(self._session(browser), view).values()

    def _begin(
        self, session: Session, question: str, drafts: tuple[Draft, ...], choices: Choices
    ) -> bool:
        turn = choices.turn(question, accepted(drafts))
        asked = session.conversation.instructed(choices.system).asked(turn)
        request = Request(asked, choices.sampling, session.key)
        return session.begin(self._engine, request, question, drafts)

    def _try(self, session: Session, begin: Callable[[], bool]) -> Values:
        """Begin an answer: the question stands in the chat, Stop is where Send was."""
        try:
            begun = begin()
        except EngineError as error:
            return View(notice=draw_notice(error.cause, error.advice)).values()
        running = session.running
        if not begun or running is None:
            return View().values()
        asked = running.request.conversation
        self._draw_missing(session, asked)
        running.tiles = sum(
            session.cards[file].tiles for file in asked.attachments if file in session.cards
        )
        return View(
            history=show(asked, session.cards, session.overlays),
            live=[],
            progress=draw_progress(running.stream.progress, self._engine.status(), running.tiles),
            notice="",
            tray=draw_tray(session.drafts, session.cards),
            question="" if running.question else STAYS,
            welcome=shown(False),
            send=shown(False),
            stop=shown(True),
            actions=shown(False),
        ).values()

    async def _flushes(self, running: Running) -> AsyncGenerator[tuple[str, str], None]:
        """The text so far and the progress, until the stream ends; raises what went wrong."""
        text, last, flushed_at = "", "", 0.0
        while (piece := running.stream.take(0)) is not None:
            text += piece
            line = draw_progress(running.stream.progress, self._engine.status(), running.tiles)
            now = time.monotonic()
            if piece or line != last or now - flushed_at >= SILENCE_S:
                last, flushed_at = line, now
                yield text, line
            await asyncio.sleep(FLUSH_S)

    def _at_rest(self, session: Session, view: View) -> View:
        """`view`, with every part that follows from the session drawn anew."""
        empty = not session.conversation.turns
        return replace(
            view,
            history=show(session.conversation, session.cards, session.overlays),
            tray=draw_tray(session.drafts, session.cards),
            welcome=shown(empty),
            send=shown(True),
            stop=shown(False),
            actions=shown(not empty),
        )

    def _draw_missing(self, session: Session, asked: Conversation) -> None:
        """Cards of files whose choices came from the settings panel or an example."""
        composer = self._composer()
        for file in asked.attachments:
            if composer is not None and file not in session.cards:
                try:
                    session.cards[file] = draw_card(file, composer.media)
                except EngineError:
                    continue  # the engine will say what is wrong with it

    def _session(self, browser: gr.Request) -> Session:
        return self._sessions.of(browser.session_hash or "")


def draw_boxes(session: Session) -> None:
    """Remember the picture with the last answer's boxes, if it named any."""
    answer = session.conversation.turns[-1].answer
    try:
        overlay = draw_overlay(session.conversation)
    except Exception:  # a picture beside the answer must never cost the answer
        logger.exception("drawing boxes failed")
        return
    if overlay is not None and answer is not None:
        session.overlays[answer] = overlay


def require_question(question: str, drafts: tuple[Draft, ...]) -> None:
    """Raise `BadQuestion` when there is neither text nor a file that can be sent."""
    if not (question or "").strip() and not accepted(drafts):
        raise BadQuestion(words.EMPTY_QUESTION, words.EMPTY_QUESTION_ADVICE)


def find_example(examples: tuple[Example, ...], data: object) -> Example | None:
    """The example that a click named."""
    number = data.get("example") if isinstance(data, dict) else None
    if isinstance(number, int) and 0 <= number < len(examples):
        return examples[number]
    return None
