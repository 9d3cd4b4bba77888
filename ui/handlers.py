"""Events of the chat: ask, retry, stop, undo, clear. Each yields or returns a view of the page.

Nothing a browser says about the chat is believed; it lives in `ui.sessions`. An answer is an
async generator that looks into its stream some twenty times a second and yields even in silence,
because Gradio can end a handler only at a yield or an await.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import gradio as gr

from backend.conversation import Answer, Conversation, Request
from backend.engine import Engine, Stream
from backend.errors import BadInput, BadQuestion, EngineError
from backend.prompt.compose import Composer
from ui import words
from ui.boxes_overlay import draw_overlay
from ui.cards import Draft
from ui.choices import Choices, read_choices
from ui.examples import Example
from ui.messages import show, show_live
from ui.panels import draw_finished, draw_notice, draw_progress
from ui.sessions import Session, Sessions
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

    async def ask(
        self, question: str, browser: gr.Request, *values: object
    ) -> AsyncGenerator[Values, None]:
        """Send what is in the box and stream the answer; on failure it is back in the box."""
        session = self._session(browser)
        if session.running:
            yield View().values()
            return
        try:
            choices = read_choices(*values)
            files = accepted(session.drafts)
            require_question(question, len(files))
        except BadInput as error:
            yield View(notice=draw_notice(error.cause, error.advice)).values()
            return
        drafts = session.take_drafts()
        async with aclosing(self._ask(session, question, drafts, choices)) as views:
            async for view in views:
                yield view.values()

    async def try_example(
        self, event: gr.EventData, browser: gr.Request, *values: object
    ) -> AsyncGenerator[Values, None]:
        """Ask one of the examples as if it had been typed."""
        session = self._session(browser)
        example = find_example(self._examples(), event._data)
        if session.running or example is None:
            yield View().values()
            return
        try:
            choices = read_choices(*values)
        except BadInput as error:
            yield View(notice=draw_notice(error.cause, error.advice)).values()
            return
        drafts = tuple(Draft(-number, file.name, file) for number, file in enumerate(example.files))
        async with aclosing(self._ask(session, example.question, drafts, choices)) as views:
            async for view in views:
                yield view.values()

    async def retry(self, browser: gr.Request, *values: object) -> AsyncGenerator[Values, None]:
        """Answer the last question anew; on failure the former answer stays."""
        session = self._session(browser)
        if session.running or not session.conversation.turns:
            yield View().values()
            return
        try:
            choices = read_choices(*values)
        except BadInput as error:
            yield View(notice=draw_notice(error.cause, error.advice)).values()
            return
        open_again = session.conversation.unanswered().instructed(choices.system)
        request = Request(open_again, choices.sampling, session.key)
        async with aclosing(self._answer(session, request, lambda: View())) as views:
            async for view in views:
                yield view.values()

    def stop(self, browser: gr.Request) -> None:
        """End the running answer; the handler that reads it then shows what there is."""
        self._session(browser).stop()

    def undo(self, typed: str, browser: gr.Request) -> Values:
        """Take the last turn back into the box."""
        session = self._session(browser)
        if session.running or not session.conversation.turns:
            return View().values()
        turn = session.conversation.turns[-1]
        session.conversation = session.conversation.without_last()
        for file in reversed(turn.attachments):
            session.add_first(file)
        question = "\n".join(filter(None, (turn.question, typed)))
        return self._still(session, View(question=question, notice="")).values()

    def clear(self, browser: gr.Request) -> Values:
        """Begin anew: the chat, the box and the running answer are gone."""
        self._session(browser).stop()
        self._sessions.forget(browser.session_hash or "")
        view = View(question="", notice="", live=[], progress="")
        return self._still(self._session(browser), view).values()

    async def _ask(
        self, session: Session, question: str, drafts: tuple[Draft, ...], choices: Choices
    ) -> AsyncGenerator[View, None]:
        turn = choices.turn(question, accepted(drafts))
        asked = session.conversation.instructed(choices.system).asked(turn)
        request = Request(asked, choices.sampling, session.key)

        def give_back() -> View:
            session.give_back(drafts)
            typed = session.typed.strip()
            kept = "" if question.startswith(typed) else f"\n{typed}"
            return View(question=question + kept)

        async with aclosing(self._answer(session, request, give_back)) as views:
            async for view in views:
                yield view

    async def _answer(
        self, session: Session, request: Request, give_back: Callable[[], View]
    ) -> AsyncGenerator[View, None]:
        """Stream the answer to `request` into the page and the session.

        The chat is changed only once there is an answer, so whatever happens before leaves it
        whole; `give_back` then puts the question back where it came from.
        """
        text, ended, failure = "", View(), ""
        answer: Answer | None = None
        try:
            with session.answering(self._engine, request) as stream:
                await asyncio.to_thread(self._draw_missing, session, request.conversation)
                yield self._begun(session, request.conversation)
                async for said, view in self._follow(session, stream):
                    text = said
                    yield view
        except EngineError as error:
            failure = draw_notice(error.cause, error.advice, text)
        except Exception:  # the page's border: whatever broke, the question must not be lost
            logger.exception("answering failed")
            failure = draw_notice(words.BROKEN, words.BROKEN_ADVICE, text)
        finally:  # also when the tab was closed, which ends this at an await
            if text and not failure:
                answer = Answer(text, stream.token_ids, stream.statistics)
                session.conversation = request.conversation.answered(answer)
            else:
                ended = give_back()
        if not (answer or failure):
            failure = draw_notice(words.STOPPED_EARLY, words.STOPPED_EARLY_ADVICE)
        if answer:
            await asyncio.to_thread(self._draw_boxes, session, answer)
        yield self._ended(session, ended, failure)

    async def _follow(
        self, session: Session, stream: Stream
    ) -> AsyncGenerator[tuple[str, View], None]:
        """The text so far and what it changes on the page, until the stream ends."""
        text, last, yielded_at = "", "", 0.0
        while (piece := stream.take(0)) is not None:
            text += piece
            line = draw_progress(stream.progress, self._engine.status(), session.tiles)
            now = time.monotonic()
            if piece or line != last or now - yielded_at >= SILENCE_S:
                last, yielded_at = line, now
                yield text, View(live=show_live(text) if piece else STAYS, progress=line)
            await asyncio.sleep(FLUSH_S)

    def _begun(self, session: Session, asked: Conversation) -> View:
        """The question stands in the chat, the box is empty, Stop is where Send was."""
        session.tiles = sum(
            session.cards[file].tiles for file in asked.attachments if file in session.cards
        )
        return View(
            history=show(asked, session.cards, session.overlays),
            live=[],
            notice="",
            tray=draw_tray(session.drafts, session.cards),
            question="",
            welcome=shown(False),
            send=shown(False),
            stop=shown(True),
            actions=shown(False),
        )

    def _ended(self, session: Session, ended: View, notice: str) -> View:
        """The page at rest after an answer or a failure."""
        if self._sessions.of(session.key) is not session:  # cleared meanwhile
            return View(live=[], progress="")
        progress = "" if notice else draw_finished()
        return self._still(
            session, View(question=ended.question, notice=notice, live=[], progress=progress)
        )

    def _still(self, session: Session, view: View) -> View:
        """`view`, with every part that follows from the session drawn anew."""
        empty = not session.conversation.turns
        return View(
            history=show(session.conversation, session.cards, session.overlays),
            live=view.live,
            progress=view.progress,
            notice=view.notice,
            tray=draw_tray(session.drafts, session.cards),
            question=view.question,
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

    def _draw_boxes(self, session: Session, answer: Answer) -> None:
        try:
            overlay = draw_overlay(session.conversation)
        except Exception:  # a picture beside the answer must never cost the answer
            logger.exception("drawing boxes failed")
            return
        if overlay:
            session.overlays[answer] = overlay

    def _session(self, browser: gr.Request) -> Session:
        return self._sessions.of(browser.session_hash or "")


def require_question(question: str, files: int) -> None:
    """Raise `BadQuestion` when there is neither text nor a file."""
    if not (question or "").strip() and not files:
        raise BadQuestion(words.EMPTY_QUESTION, words.EMPTY_QUESTION_ADVICE)


def find_example(examples: tuple[Example, ...], data: object) -> Example | None:
    """The example that a click named."""
    number = data.get("example") if isinstance(data, dict) else None
    if isinstance(number, int) and 0 <= number < len(examples):
        return examples[number]
    return None
