"""What an engine cannot do is greyed out, with the reason in the place of the explanation.

A reason that has no such place stands under the model's name.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from backend.conversation import MAX_NEW_TOKENS
from backend.engine import Inability
from ui import words


@dataclass(frozen=True, slots=True)
class Control:
    """A part of the settings: what `Inability.what` calls it, and how it stands untouched."""

    what: str
    info: str
    neutral: Any


# In the order in which the page lays them out.
CONTROLS = (
    Control("system", words.SYSTEM_INFO, ""),
    Control("temperature", words.TEMPERATURE_INFO, 0),
    Control("top_p", words.TOP_P_INFO, 1),
    Control("top_k", words.TOP_K_INFO, 0),
    Control("repetition_penalty", words.PENALTY_INFO, 1),
    Control("max_new_tokens", words.MAX_NEW_INFO, MAX_NEW_TOKENS),
    Control("seed", words.SEED_INFO, ""),
    Control("max_tiles", words.MAX_TILES_INFO, 0),
    Control("combined", words.LAYOUT_INFO, words.SEPARATE),
)
FILES = "image"  # an engine that takes no pictures takes no video either


def grey(unable: Iterable[Inability]) -> list[Any]:
    """Changes of the button for files and of each control, in order.

    A control that is greyed out goes back to where it does nothing, so that nothing is sent that
    nobody can change.
    """
    reasons = {one.what: one.reason for one in unable}
    files = gr.update(interactive=FILES not in reasons)
    return [files, *(change(control, reasons.get(control.what, "")) for control in CONTROLS)]


def unseen_reasons(unable: Iterable[Inability]) -> tuple[str, ...]:
    """The reasons that no greyed-out control shows, each once."""
    shown = {control.what for control in CONTROLS}
    return tuple(dict.fromkeys(one.reason for one in unable if one.what not in shown))


def change(control: Control, reason: str) -> Any:
    """How a control stands, when `reason` keeps the engine from it, or nothing does."""
    if reason:
        return gr.update(interactive=False, info=reason, value=control.neutral)
    return gr.update(interactive=True, info=control.info)
