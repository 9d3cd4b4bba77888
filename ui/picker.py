"""The list of models in the side bar: what each needs, whether it fits, and the press that changes.

What can be chosen is told by whoever knows the machine. A browser names a model of that list or
nothing: no path and no address that somebody typed is ever loaded.
"""

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from backend.engine import Engine
from backend.errors import EngineError
from backend.offers import Menu, Offer, Picker
from backend.settings import QUANTIZATIONS, Settings
from ui import words
from ui.box import LOADING_S, told
from ui.panels import draw_model, draw_notice
from ui.sessions import Sessions

PRECISIONS = {"": words.PRECISION_AUTO} | {name: name for name in QUANTIZATIONS}
SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (button) trigger('select', {do: button.dataset.do, value: button.dataset.value || ''});
});
"""


class PickHandlers:
    """What a press in the list does; each session has its own list, open or not."""

    def __init__(self, engine: Engine, picker: Picker, sessions: Sessions) -> None:
        self._engine = engine
        self._picker = picker
        self._sessions = sessions

    def press(self, event: gr.EventData, browser: gr.Request) -> list[Any]:
        """A button of the list was pressed → list, model, notice, how soon to ask again."""
        session = self._sessions.of(browser.session_hash or "")
        data = told(event)
        act = self._acts.get(str(data.get("do")))
        if act is None:
            return [gr.skip()] * 4
        try:
            session.precision = act(self, session.precision, str(data.get("value")))
            menu = None
            if session.precision is not None:
                menu = self._picker.menu(session.precision or None)
        except EngineError as error:
            notice = draw_notice(error.cause, error.advice)
            return [gr.skip(), gr.skip(), notice, gr.skip()]
        session.said = ""  # so that the next look sets the timer again
        drawn = draw_picker(menu, self._picker.chosen())
        # The notice is left alone: the answer that was ended may be telling there that it was.
        line = draw_model(self._engine.status())
        return [drawn, line, gr.skip(), gr.Timer(LOADING_S)]

    def _toggle(self, shown: str | None, value: str) -> str | None:
        return (self._picker.chosen().quantize or "") if shown is None else None

    def _show(self, shown: str | None, value: str) -> str | None:
        return value if value in PRECISIONS else shown

    def _take(self, shown: str | None, value: str) -> str | None:
        """Change to the model called `value` and fold the list away; one that is none changes
        nothing."""
        offers = self._picker.menu(shown or None).offers if shown is not None else ()
        offer = next((one for one in offers if one.name == value and one.fits), None)
        if offer is None:
            return shown
        self._picker.choose(offer.settings)
        return None

    _acts: dict[str, Callable[["PickHandlers", str | None, str], str | None]] = {
        "toggle": _toggle,
        "show": _show,
        "take": _take,
    }


def make_picker() -> gr.HTML:
    """The list, folded."""
    drawn = draw_picker(None, None)
    return gr.HTML(drawn, elem_id="picker", js_on_load=SCRIPT, apply_default_css=False)


def draw_picker(menu: Menu | None, chosen: Settings | None) -> str:
    """The button, and under it the list of a menu, if it is unfolded."""
    unfolded = str(menu is not None).lower()
    button = (
        f'<button type="button" class="change" data-do="toggle" aria-expanded="{unfolded}">'
        f"{words.CHANGE_MODEL}</button>"
    )
    return button if menu is None else f"{button}{draw_menu(menu, chosen)}"


def draw_menu(menu: Menu, chosen: Settings | None) -> str:
    """The machine, the precisions, and a row for each model."""
    shown = menu.offers[0].settings.quantize or ""
    precisions = "".join(
        f'<button type="button" data-do="show" data-value="{name}" '
        f'aria-pressed="{str(name == shown).lower()}">{label}</button>'
        for name, label in PRECISIONS.items()
    )
    rows = "".join(draw_offer(offer, offer.settings == chosen) for offer in menu.offers)
    return (
        f'<section class="menu" aria-label="{words.CHANGE_MODEL}">'
        f"<p>{escape(words.machine(menu.machine))}</p>"
        f'<div class="precisions" role="group" aria-label="{words.PRECISION}">{precisions}</div>'
        f"<ul>{rows}</ul><p>{words.CHANGE_ENDS}</p></section>"
    )


def draw_offer(offer: Offer, chosen: bool) -> str:
    """A model: its name, the room it needs, and what else there is to know before a press."""
    name = escape(offer.name)
    about = "".join(f"<span>{escape(line)}</span>" for line in words.offer_lines(offer, chosen))
    state = 'aria-current="true"' if chosen else "" if offer.fits else "disabled"
    return (
        f'<li><button type="button" class="offer" data-do="take" data-value="{name}" {state}>'
        f"<b>{name}</b><em>{escape(offer.needs)}</em>{about}</button></li>"
    )
