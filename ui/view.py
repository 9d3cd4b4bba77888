"""What a handler tells the page: only what changes, in the order of the page's parts."""

from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

STAYS: Any = object()  # what a part is given when nothing changes in it


@dataclass(frozen=True, slots=True)
class View:
    """New values of the page's parts; what is not named stays as it is."""

    history: Any = STAYS
    live: Any = STAYS
    progress: Any = STAYS
    notice: Any = STAYS
    tray: Any = STAYS
    question: Any = STAYS
    budget: Any = STAYS
    welcome: Any = STAYS
    send: Any = STAYS
    stop: Any = STAYS
    actions: Any = STAYS

    def values(self) -> list[Any]:
        """One value for each part, in order."""
        values = (getattr(self, part.name) for part in fields(self))
        return [gr.skip() if value is STAYS else value for value in values]


NAMES = tuple(part.name for part in fields(View))


def shown(visible: bool) -> Any:
    """A change of visibility."""
    return gr.update(visible=visible)
