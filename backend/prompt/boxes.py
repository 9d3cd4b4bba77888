"""Boxes: regions that an answer points at, `<ref>name</ref><box>[[x1, y1, x2, y2], …]</box>`.

Coordinates are whole thousandths of the picture's width and height, whatever its tiles
(InternVL's evaluate_grounding.py @2410d1d; OpenGVLab/InternVL#1009). Engines that leave special
tokens out send `name[[x1, y1, x2, y2], …]`, which is read where an answer is nothing else.

What a model writes is never trusted: nothing is evaluated, and what is not a box inside the
picture is passed over. Which picture is meant is not known here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

SCALE = 1000
MOST_BOXES = 500  # of one answer; a model that runs wild must not fill the page

TAGS = re.compile(r"(</?ref>|</?box>)")
BOX = re.compile(r"\[\s*" + r"\s*,\s*".join([r"([0-9]{1,4})"] * 4) + r"\s*\]")


BARE = re.compile(r"([^\[\]]{1,80}?)\s*(\[\[[0-9,\s\[\]]+\]\])[.,;]?")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle inside the picture, in thousandths of its width and height."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Region:
    """A thing by the name the model gave it, "" if it gave none, and all places where it is."""

    name: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A box on a picture of a known size, px; right and bottom lie just outside it."""

    left: int
    top: int
    right: int
    bottom: int


def find_regions(answer: str) -> tuple[Region, ...]:
    """Every whole region in an answer, also in one that is still being written."""
    found: list[Region] = []
    left = MOST_BOXES
    for name, content in _tagged(answer) if TAGS.search(answer) else _bare(answer):
        boxes = tuple(_boxes(content))[:left]
        left -= len(boxes)
        if boxes:
            found.append(Region(name, boxes))
    return tuple(found)


def scale(box: Box, width: int, height: int) -> Rectangle:
    """`box` on a picture of `width` x `height` px, at least one pixel wide and high."""
    left = box.left * width // SCALE
    top = box.top * height // SCALE
    return Rectangle(
        left,
        top,
        max(round(box.right * width / SCALE), left + 1),
        max(round(box.bottom * height / SCALE), top + 1),
    )


def _tagged(answer: str) -> Iterator[tuple[str, str]]:
    """The content of each <box>…</box> with the name in the <ref>…</ref> right before it."""
    name, tag, content = "", "", ""
    for part in TAGS.split(answer):
        if not TAGS.fullmatch(part):
            content = part
            if tag not in ("<ref>", "<box>") and part.strip():
                name = ""  # words between a name and a box part them
            continue
        if part == "</ref>" and tag == "<ref>":
            name = content.strip()
        elif part == "</box>" and tag == "<box>":
            yield name, content
        tag = part


def _bare(answer: str) -> Iterator[tuple[str, str]]:
    """Names and contents of an answer of which every line is a region without its signs."""
    lines = [BARE.fullmatch(line.strip()) for line in answer.splitlines() if line.strip()]
    for line in lines if all(lines) else ():
        assert line is not None
        yield line[1].strip(), line[2]


def _boxes(content: str) -> Iterator[Box]:
    for match in BOX.finditer(content):
        box = Box(*map(int, match.groups()))
        if box.left < box.right <= SCALE and box.top < box.bottom <= SCALE:
            yield box
