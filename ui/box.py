"""Events of the box: files come and go, choices change, and what would be sent is weighed."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from backend.conversation import Conversation
from backend.engine import Engine, State
from backend.errors import EngineError
from backend.prompt.compose import Composer
from ui.abilities import CONTROLS, grey
from ui.choices import Choices, read_choices
from ui.panels import draw_budget, draw_model, draw_notice
from ui.sessions import Session, Sessions
from ui.tray import draw_tray
from ui.uploads import accept, accepted, choose, forget_cards, look_again

READY_S, LOADING_S = 5.0, 1.0  # how often a page asks how the model is


class BoxHandlers:
    """What happens before a question is sent."""

    def __init__(
        self,
        engine: Engine,
        composer: Callable[[], Composer | None],
        sessions: Sessions,
        welcome: Callable[[], str],
    ) -> None:
        self._engine = engine
        self._composer = composer
        self._sessions = sessions
        self._welcome = welcome

    def add(self, paths: Sequence[str] | str | None, browser: gr.Request) -> list[Any]:
        """Files were dropped, pasted or chosen → tray, notice, and the button emptied."""
        session = self._session(browser)
        dropped = [paths] if isinstance(paths, str) else paths or []
        composer = self._composer()
        accept(session, dropped, composer.media if composer else None)
        return [draw_tray(session.drafts, session.cards), "", None]

    def choose(self, event: gr.EventData, browser: gr.Request) -> list[Any]:
        """A number of a file changed in the tray → tray, notice."""
        session = self._session(browser)
        composer = self._composer()
        notice = ""
        data = told(event)
        try:
            choose(
                session,
                key_of(data),
                str(data.get("choose", "")),
                data.get("value"),
                composer.media if composer else None,
            )
        except EngineError as error:
            notice = draw_notice(error.cause, error.advice)
        return [draw_tray(session.drafts, session.cards), notice]

    def remove(self, event: gr.EventData, browser: gr.Request) -> str:
        """A file was taken out → tray."""
        session = self._session(browser)
        session.remove(key_of(told(event)))
        return draw_tray(session.drafts, session.cards)

    def weigh(self, question: str, browser: gr.Request, *values: object) -> str:
        """The budget line for what stands in the box; its files are got ready in the meantime."""
        session = self._session(browser)
        session.typed, session.panel = question or "", values
        composer = self._composer()
        if composer is None:
            return draw_budget(None)
        try:
            choices = read_choices(*values)
            unsent = choices.turn("", accepted(session.drafts))
            self._engine.expect(session.key, unsent.attachments)
            conversation = self._drafted(session, choices)
            return draw_budget(composer.measure(conversation) if conversation.turns else None)
        except EngineError as error:
            return draw_notice(error.cause, error.advice)

    def look(self, browser: gr.Request) -> list[Any]:
        """How the model is now → model, tray, welcome, budget, how soon to ask again, the button
        for files and every setting; only what changed. Another model counts and cuts anew."""
        session = self._session(browser)
        status = self._engine.status()
        line = draw_model(status)
        composer = self._composer()
        known = composer.facts if composer else False
        news, another = line != session.said, known != session.known
        if another and session.known:
            forget_cards(session)
        session.said, session.known = line, known
        other = status.unable != session.unable
        session.unable = status.unable
        grown = composer is not None and look_again(session, composer.media)
        controls = grey(status.unable) if other else [gr.skip()] * (1 + len(CONTROLS))
        if composer and another:
            controls[1] = controls[1] | gr.update(placeholder=composer.facts.system_prompt)
        pause = READY_S if status.state is State.READY else LOADING_S
        return [
            line if news else gr.skip(),
            draw_tray(session.drafts, session.cards) if grown else gr.skip(),
            self._welcome() if another else gr.skip(),
            self._weigh_again(session, browser) if another else gr.skip(),
            gr.Timer(pause) if news else gr.skip(),
            *controls,
        ]

    def _weigh_again(self, session: Session, browser: gr.Request) -> Any:
        """The budget line once more, if it was ever asked for."""
        return self.weigh(session.typed, browser, *session.panel) if session.panel else gr.skip()

    def _drafted(self, session: Session, choices: Choices) -> Conversation:
        """The chat as it would be if the box were sent now."""
        running = session.running
        if running is not None:
            return running.request.conversation
        conversation = session.conversation.instructed(choices.system)
        files = accepted(session.drafts)
        if not (session.typed.strip() or files):
            return conversation
        return conversation.asked(choices.turn(session.typed, files))

    def _session(self, browser: gr.Request) -> Session:
        return self._sessions.of(browser.session_hash or "")


def told(event: gr.EventData) -> dict[str, Any]:
    """What the tray says happened; a browser may say anything."""
    return event._data if isinstance(event._data, dict) else {}


def key_of(data: dict[str, Any]) -> int:
    """Which file is meant; 0 is none."""
    key = data.get("key")
    return key if isinstance(key, int) else 0
