"""A conversation as the chat shows it. Pure: turns in, Gradio's chat messages out.

A question is shown as the plain text it is; an answer goes out byte for byte as the model wrote it
and is drawn as Markdown by the browser. Text is sent as parts of type "text", because Gradio
removes indentation from plain strings.
"""

import re
from html import escape
from typing import Any

from backend.conversation import Answer, Attachment, Conversation, Statistics, Turn
from ui import words
from ui.cards import Card, Overlay
from ui.lines import draw_line
from ui.tray import draw_files, draw_picture

Message = dict[str, Any]

# Code keeps its text: only what Markdown would draw as a picture from elsewhere is disarmed.
CODE_OR_PICTURE = re.compile(
    r"(?P<code>```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`)"
    r"|(?P<picture>!(?=\[[^\]]*\](?:\(|\[|:)))"
    r"|(?P<tag><(?=(?:img|picture|source|video|audio|svg|image|input|iframe)\b))",
    re.DOTALL | re.IGNORECASE,
)


def show(
    conversation: Conversation,
    cards: dict[Attachment, Card],
    overlays: dict[Answer, Overlay] | None = None,
) -> list[Message]:
    """The whole chat. `overlays` are pictures with boxes, by the answer that named the boxes."""
    return [
        message for turn in conversation.turns for message in show_turn(turn, cards, overlays or {})
    ]


def show_turn(
    turn: Turn, cards: dict[Attachment, Card], overlays: dict[Answer, Overlay]
) -> list[Message]:
    """A question, and its answer with the line under it once there is one."""
    shown = [markup("user", draw_question(turn, cards))]
    if turn.answer is not None:
        shown.append(text("assistant", turn.answer.text))
        shown.append(markup("assistant", draw_foot(turn.answer, overlays.get(turn.answer))))
    return shown


def draw_question(turn: Turn, cards: dict[Attachment, Card]) -> str:
    """A question's files and its text, in which nothing is markup."""
    said = f'<p class="said">{escape(turn.question)}</p>' if turn.question.strip() else ""
    return f'<div class="question">{draw_files(turn.attachments, cards)}{said}</div>'


def draw_foot(answer: Answer, overlay: Overlay | None) -> str:
    """What stands under an answer: the picture with its boxes, and what it cost."""
    picture = ""
    if overlay:
        picture = draw_boxes(overlay)
    return f"{picture}{draw_statistics(answer.statistics)}"


def draw_boxes(overlay: Overlay) -> str:
    """The picture with numbered boxes, and what each of them is."""
    legend = "".join(f"<li>{escape(line)}</li>" for line in overlay.legend)
    picture = draw_picture(overlay.path, words.boxes_on(overlay.picture))
    return f'<figure class="boxes">{picture}<ol>{legend}</ol></figure>'


def draw_statistics(statistics: Statistics | None) -> str:
    """The quiet line under an answer."""
    line = draw_line(words.statistics_line(statistics)) if statistics else ""
    return f'<p class="statistics">{line}</p>'


def show_live(answer: str) -> list[Message]:
    """The answer that is being written, in a chat of its own so that a flush costs the same
    after a hundred turns as in the first."""
    return [text("assistant", answer)] if answer else []


def text(role: str, content: str) -> Message:
    """A message of text."""
    return {"role": role, "content": [{"type": "text", "text": without_remote_pictures(content)}]}


def markup(role: str, html: str) -> Message:
    """A message of our own HTML."""
    part = {
        "type": "component",
        "component": "html",
        "value": html,
        "constructor_args": {},
        "props": {"apply_default_css": False},
    }
    return {"role": role, "content": [part]}


def without_remote_pictures(answer: str) -> str:
    """`answer` with picture markup disarmed, so that it is read instead of fetched.

    A model can be made to write a picture's address that carries the chat away (CVE-2025-32711);
    the page's content policy forbids the fetch, this shows the reader what was written.
    """

    def disarm(match: re.Match[str]) -> str:
        if match["picture"]:
            return "\\!"
        return "&lt;" if match["tag"] else match[0]

    return CODE_OR_PICTURE.sub(disarm, answer)
