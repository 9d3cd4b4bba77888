"""Boxes of an answer, drawn on the picture that they are about.

Numbers stand in the picture and names beside it, so that a name in any script can be read. Which
picture is meant is a guess told openly: the one the answer or else the question calls Image-N,
else the last one shown.
"""

import io
import re
from collections.abc import Iterator

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image, ImageDraw, ImageFont

from backend.conversation import Attachment, Conversation, Kind
from backend.media.images import open_image
from backend.media.limits import Limits
from backend.prompt.boxes import Rectangle, Region, find_regions, scale
from ui import words
from ui.cards import Overlay

COLOURS = ("#e5484d", "#2f6fed", "#12a150", "#b4650a", "#9146ff", "#0b8ea5")
LONGEST = 1280  # px, of the drawn picture's longer side
NAMED = re.compile(r"Image-(\d+)", re.IGNORECASE)


def draw_overlay(conversation: Conversation) -> Overlay | None:
    """The last answer's boxes on their picture; `None` if it has none or there is no picture.

    Raises `BadFile` when the picture's file is gone.
    """
    turn = conversation.turns[-1]
    regions = find_regions(turn.answer.text) if turn.answer else ()
    meant = find_picture(conversation) if regions else None
    if meant is None:
        return None
    picture = open_image(meant.path, meant.name, Limits()).image
    places = list(place(regions, *picture.size))
    drawn = draw_places(picture, [rectangle for _, rectangle in places])
    jpeg = io.BytesIO()
    drawn.save(jpeg, "JPEG", quality=88)
    return Overlay(
        save_bytes_to_cache(jpeg.getvalue(), "boxes.jpg", get_upload_folder()),
        meant.name,
        tuple(words.box_line(name, corners(rectangle)) for name, rectangle in places),
    )


def find_picture(conversation: Conversation) -> Attachment | None:
    """The picture that the last answer is about."""
    images = [file for file in conversation.attachments if file.kind is Kind.IMAGE]
    turn = conversation.turns[-1]
    for text in (turn.answer.text if turn.answer else "", turn.question):
        for number in reversed(NAMED.findall(text)):
            if 0 < int(number) <= len(images):
                return images[int(number) - 1]
    return images[-1] if images else None


def place(regions: tuple[Region, ...], width: int, height: int) -> Iterator[tuple[str, Rectangle]]:
    """Each box with its region's name, on a picture of `width` x `height` px."""
    for region in regions:
        for box in region.boxes:
            yield region.name, scale(box, width, height)


def draw_places(picture: Image.Image, places: list[Rectangle]) -> Image.Image:
    """A copy of the picture, at most `LONGEST` px, with numbered rectangles."""
    drawn = picture.copy()
    drawn.thumbnail((LONGEST, LONGEST))
    factor = drawn.width / picture.width
    pen = ImageDraw.Draw(drawn)
    width = max(2, drawn.width // 200)
    font = ImageFont.load_default(max(13, drawn.width // 28))
    for number, rectangle in enumerate(places):
        colour = COLOURS[number % len(COLOURS)]
        left, top, right, bottom = (round(edge * factor) for edge in corners(rectangle))
        frame = (left, top, max(right - 1, left), max(bottom - 1, top))
        pen.rectangle(frame, None, "#ffffff", 2 * width)  # a rim, to be seen on any colour
        pen.rectangle(frame, None, colour, width)
        _, _, across, down = pen.textbbox((0, 0), str(number + 1), font)
        pen.rectangle((left, top, left + across + 8, top + down + 6), colour)
        pen.text((left + 4, top + 2), str(number + 1), "#ffffff", font)
    return drawn


def corners(rectangle: Rectangle) -> tuple[int, int, int, int]:
    """Left, top, right, bottom."""
    return rectangle.left, rectangle.top, rectangle.right, rectangle.bottom
