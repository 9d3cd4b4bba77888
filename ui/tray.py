"""HTML of files: thumbnails with their tiles, a video's very frames with their times, refusals.

Pure: cards and drafts in, HTML out. Everything a person or a file name says is escaped.
"""

from html import escape
from urllib.parse import quote

from backend.conversation import MOST_FRAMES, MOST_TILES, Attachment, Kind
from ui import words
from ui.cards import Card, Draft


def draw_tray(drafts: tuple[Draft, ...], cards: dict[Attachment, Card]) -> str:
    """The files that wait to be sent, with what can be chosen for each."""
    if not drafts:
        return ""
    tiles = "".join(draw_draft(draft, cards) for draft in drafts)
    return f'<ul class="tray">{tiles}</ul>'


def draw_draft(draft: Draft, cards: dict[Attachment, Card]) -> str:
    """One unsent file."""
    name = escape(draft.name)
    remove = (
        f'<button type="button" class="remove" data-remove="{draft.key}" '
        f'aria-label="{words.REMOVE} {name}" title="{words.REMOVE}">{CROSS}</button>'
    )
    if draft.attachment is None:
        return (
            f'<li class="file refused"><div class="what"><b>{name}</b>'
            f"<span>{words.UNREADABLE}: {escape(draft.problem)}</span></div>{remove}</li>"
        )
    card = cards.get(draft.attachment)
    if draft.attachment.kind is Kind.VIDEO:
        return f'<li class="file video">{draw_video(draft, card)}{remove}</li>'
    return f'<li class="file image">{draw_image(draft, card)}{remove}</li>'


def draw_image(draft: Draft, card: Card | None) -> str:
    """An unsent picture: thumbnail, tiles, and the number of tiles to choose."""
    assert draft.attachment is not None
    name = escape(draft.name)
    if card is None:
        return f'<div class="what"><b>{name}</b><span>{words.PENDING}</span></div>'
    field = draw_field(draft, "max_tiles", words.TILES_AT_MOST, draft.attachment.max_tiles)
    return (
        f"{draw_whole(draft.attachment, card)}"
        f'<div class="what"><b title="{name}">{name}</b>{describe(card)}{field}</div>'
    )


def draw_video(draft: Draft, card: Card | None) -> str:
    """An unsent video: number and range to choose, and the frames that follow from them."""
    assert draft.attachment is not None
    name, file = escape(draft.name), draft.attachment
    fields = (
        draw_field(draft, "frames", words.FRAMES, file.frames or (card.tiles if card else None))
        + draw_field(draft, "start_s", words.FROM, file.start_s)
        + draw_field(draft, "end_s", words.TO, file.end_s)
    )
    about = f"<span>{words.PENDING}</span>" if card is None else describe(card)
    strip = draw_strip(card, draft.name) if card else ""
    return (
        f'<div class="what"><b title="{name}">{name}</b>{about}</div>'
        f'<div class="fields">{fields}</div>{strip}'
    )


def draw_field(draft: Draft, field: str, label: str, value: float | None) -> str:
    """A number to choose for a file; the page reports its change with the file's key."""
    most = {"max_tiles": MOST_TILES, "frames": MOST_FRAMES}.get(field)
    limits = f'min="1" max="{most}" step="1"' if most else 'min="0" step="any"'
    hint = {"max_tiles": "auto", "start_s": "start", "end_s": "end"}.get(field, "")
    shown = "" if value is None else f"{value:g}"
    return (
        f'<label>{label}<input type="number" inputmode="decimal" {limits} value="{shown}" '
        f'placeholder="{hint}" data-choose="{field}" data-key="{draft.key}" '
        f'aria-label="{label}, {escape(draft.name)}"></label>'
    )


def draw_strip(card: Card, name: str) -> str:
    """The frames that are sent, in order, with their times under them."""
    frames = "".join(
        f"<li>{draw_picture(path, f'{name} at {words.moment(time)}')}"
        f"<time>{words.moment(time)}</time></li>"
        for path, time in zip(card.previews, card.times, strict=True)
    )
    label = f"{words.FRAMES}: {escape(name)}"
    return f'<ol class="strip" tabindex="0" aria-label="{label}">{frames}</ol>'


def draw_files(files: tuple[Attachment, ...], cards: dict[Attachment, Card]) -> str:
    """The files of a question that was sent."""
    drawn = "".join(draw_sent(file, cards.get(file)) for file in files)
    return f'<div class="files">{drawn}</div>' if drawn else ""


def draw_sent(file: Attachment, card: Card | None) -> str:
    """One file of a sent question."""
    if card is None:
        return f'<span class="plain">{escape(file.name)}</span>'
    if file.kind is Kind.VIDEO:
        head = f"<b>{escape(file.name)}</b> {words.count(card.tiles, 'frame')}"
        return f'<div class="film"><p>{head}</p>{draw_strip(card, file.name)}</div>'
    return draw_whole(file, card)


def draw_whole(file: Attachment, card: Card) -> str:
    """A picture with its tiles."""
    return draw_picture(card.previews[0], file.name, words.count(card.tiles, "tile"), file.path)


def draw_picture(path: str, name: str, badge: str = "", large: str = "") -> str:
    """A preview that a click enlarges, to the file `large` where there is one."""
    mark = f'<span class="badge">{badge}</span>' if badge else ""
    label = f"{words.ENLARGE} {escape(name)}" + (f", {badge}" if badge else "")
    return (
        f'<button type="button" class="picture" data-enlarge="{url_of(large or path)}" '
        f'aria-label="{label}">'
        f'<img src="{url_of(path)}" alt="{escape(name)}">{mark}</button>'
    )


def describe(card: Card) -> str:
    """The size of a file and how it is cut, as far as there is something to tell."""
    width, height = card.size
    parts = [f"{width:,} × {height:,}"]
    if card.duration_s:
        parts.append(words.moment(card.duration_s))
    elif grid := words.tiles_of(*card.grid, card.tiles):
        parts.append(grid)
    if card.notice:
        parts.append(escape(card.notice))
    return "".join(f"<span>{part}</span>" for part in parts)


def url_of(path: str) -> str:
    """Where the browser fetches a file that lies in Gradio's upload folder."""
    return f"gradio_api/file={quote(path)}"


CROSS = (
    '<svg viewBox="0 0 16 16" width="12" height="12" aria-hidden="true">'
    '<path d="M3 3l10 10M13 3L3 13" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round"/></svg>'
)
