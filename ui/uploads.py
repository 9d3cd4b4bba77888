"""Dropped files: into attachments with a look, or a refusal that stays visible with its reason.

Knows Gradio only for the folder from which the browser may fetch previews.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from backend.conversation import Attachment, Kind
from backend.errors import BadFile, BadSetting, EngineError
from backend.media.reader import ImageLook, MediaReader
from backend.media.recognise import attach
from ui.cards import Card, Draft
from ui.sessions import Session

MOST_FILES = 64  # in the box at once; what fits the context is told by the budget


def accept(session: Session, paths: Iterable[str], media: MediaReader | None) -> None:
    """Put dropped files into the session's box, each as an attachment or as a refusal."""
    for path in paths:
        name = Path(path).name
        try:
            if len(session.drafts) >= MOST_FILES:
                raise BadFile(name, f"the box holds {MOST_FILES} files.", "Send those first.")
            attachment = attach(path, name)
            if media is not None:
                session.cards[attachment] = draw_card(attachment, media)
        except EngineError as error:
            session.add(name, None, reason_of(error, name))
        else:
            session.add(name, attachment)


def look_again(session: Session, media: MediaReader) -> bool:
    """Draw the cards that are missing; whether any was. A file that fails now is refused now."""
    missing = [
        draft
        for draft in session.drafts
        if draft.attachment is not None and draft.attachment not in session.cards
    ]
    for draft in missing:
        assert draft.attachment is not None
        try:
            session.cards[draft.attachment] = draw_card(draft.attachment, media)
        except EngineError as error:
            session.refuse(draft.key, reason_of(error, draft.name))
    return bool(missing)


def forget_cards(session: Session) -> None:
    """Let unsent files be drawn anew: another model cuts them otherwise."""
    for file in accepted(session.drafts):
        session.cards.pop(file, None)


def choose(
    session: Session, key: int, field: str, value: object, media: MediaReader | None
) -> None:
    """Change one choice of an unsent file, as `frames` to 16; `None` or "" takes it back.

    Raises `BadSetting` for a value outside its range and `BadFile` when the file cannot follow;
    the file then keeps its former choice.
    """
    draft = next((draft for draft in session.drafts if draft.key == key), None)
    if draft is None or draft.attachment is None:
        return
    allowed = {Kind.IMAGE: ("max_tiles",), Kind.VIDEO: ("frames", "start_s", "end_s")}
    if field not in allowed[draft.attachment.kind]:
        return
    choice: dict[str, Any] = {field: chosen(field, value)}
    attachment = replace(draft.attachment, **choice)
    if media is not None:
        session.cards[attachment] = draw_card(attachment, media)
    session.change(key, attachment)


def chosen(field: str, value: object) -> float | int | None:
    """A choice as typed into a field of the tray. Raises `BadSetting`."""
    if value is None or value == "":
        return None
    try:
        found = float(str(value))
        return found if field.endswith("_s") else int(found)
    except (ValueError, OverflowError):
        raise BadSetting(f"{value!r:.40} is no number.", "Correct it.") from None


def draw_card(attachment: Attachment, media: MediaReader) -> Card:
    """How an attachment looks: what the model will see of it. Raises `BadFile`."""
    look = media.look(attachment)
    previews = tuple(
        save_bytes_to_cache(jpeg, "preview.jpg", get_upload_folder())
        for jpeg in media.previews(attachment)
    )
    if isinstance(look, ImageLook):
        return Card(
            previews,
            tiles=look.tiles,
            size=(look.width, look.height),
            grid=(look.columns, look.rows),
            notice=look.notice,
        )
    return Card(
        previews,
        times=tuple(frame.time_s for frame in look.frames),
        tiles=len(look.frames),
        size=(look.width, look.height),
        duration_s=look.duration_s,
        notice=look.notice,
    )


def reason_of(error: EngineError, name: str) -> str:
    """What is wrong with a file, without its name, which stands above."""
    return str(error).removeprefix(f"{name}: ")


def accepted(drafts: Iterable[Draft]) -> tuple[Attachment, ...]:
    """The files that can be sent."""
    return tuple(draft.attachment for draft in drafts if draft.attachment is not None)
