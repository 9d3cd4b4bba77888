"""A conversation as engines get it: OpenAI's messages, in the dialect of each.

Made of the very pieces that the local engine's prompt is made of, so that roles, labels and line
breaks are the same. Pure. No path and no address typed by a person is ever passed on: pictures
are data URLs made here, and signs written out in words are broken, since engines read words with
a tokenizer that knows them.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from backend.conversation import Sampling
from backend.errors import BadInput, BadSetting
from backend.prompt.template import END, START, Piece, Special, Text, Tiles
from backend.remote.dialects import NOT_COMBINED, Dialect
from backend.remote.pictures import Picture
from backend.remote.signs import Signs

MOST_PICTURES = 256  # in one conversation, frames counted: some engines have no limit of their own
MOST_BYTES = 200_000_000  # of their data URLs together


@dataclass(frozen=True, slots=True)
class Message:
    """One message: words, and groups of pictures that share a place."""

    role: str
    parts: tuple[str | tuple[Picture, ...], ...]

    @property
    def pictures(self) -> Iterator[Picture]:
        """All pictures, in order."""
        return (one for part in self.parts if not isinstance(part, str) for one in part)


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of an engine, before it is known which one answers."""

    messages: tuple[Message, ...]
    sampling: Sampling
    room: int  # tokens that the answer may have
    most_tiles: int  # of a picture, for engines that cannot be told another number

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures of all messages, in order."""
        return tuple(picture for message in self.messages for picture in message.pictures)


def read_messages(
    pieces: Iterable[Piece], pictures: Iterable[Picture], signs: Signs
) -> tuple[Message, ...]:
    """A prompt's pieces as messages; `pictures` are in the order of the prompt's places.

    The opening of the answer is left out, and `signs` in words are broken. Raises `BadInput` for
    too many pictures.
    """
    left = iter(_within_limits(tuple(pictures)))
    return tuple(_read_message(message, left, signs) for message in _cut(pieces))


def write_body(order: Order, dialect: Dialect, model: str, kept: AbstractSet[str]) -> bytes:
    """The request's JSON. Pictures whose keys are `kept` go by their id alone.

    Raises `BadSetting` for pictures in one place, or in more tiles, where the engine cannot.
    """
    _require_ability(order, dialect)
    sampling = order.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message, dialect, kept) for message in order.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": order.room,
        **dialect.sampling(sampling),
    }
    if sampling.stop and len(sampling.stop) <= dialect.most_stops:
        body["stop"] = list(sampling.stop)
    return json.dumps(body, ensure_ascii=False).encode()


def _cut(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """The pieces of each message that is ended, without its signs."""
    current: list[Piece] = []
    for piece in pieces:
        if piece == Special(START):
            current = []
        elif piece == Special(END):
            yield current
        elif not isinstance(piece, Special):
            current.append(piece)


def _read_message(pieces: list[Piece], left: Iterator[Picture], signs: Signs) -> Message:
    """A message from its role's line and what follows it."""
    opening, *content = pieces
    role, _, words = (opening.text if isinstance(opening, Text) else "").partition("\n")
    parts = _parts([Text(words), *content], left)
    return Message(
        role, tuple(signs.break_in(part) if isinstance(part, str) else part for part in parts)
    )


def _parts(pieces: Sequence[Piece], left: Iterator[Picture]) -> Iterator[str | tuple[Picture, ...]]:
    """Words joined, and the pictures of each place."""
    words = ""
    for piece in pieces:
        if isinstance(piece, Text):
            words += piece.text
        elif isinstance(piece, Tiles):
            if words:
                yield words
            words = ""
            yield tuple(_take(piece.count, left))
    if words:
        yield words


def _take(tiles: int, left: Iterator[Picture]) -> Iterator[Picture]:
    while tiles > 0:
        picture = next(left)
        tiles -= picture.tiles
        yield picture


def _within_limits(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
    if len(pictures) > MOST_PICTURES:
        raise BadInput(
            f"The conversation has {len(pictures)} pictures and frames.",
            f"Use at most {MOST_PICTURES}: fewer files, or fewer frames of a video.",
        )
    size = sum(len(picture.url) for picture in pictures)
    if size > MOST_BYTES:
        raise BadInput(
            f"The pictures of the conversation take {size / 1e6:.0f} MB on the way to the engine.",
            f"At most {MOST_BYTES / 1e6:.0f} MB are sent: use fewer pictures or tiles.",
        )
    return pictures


def _require_ability(order: Order, dialect: Dialect) -> None:
    groups = [part for each in order.messages for part in each.parts if not isinstance(part, str)]
    if any(len(group) > 1 for group in groups) and not dialect.combines:
        raise BadSetting(NOT_COMBINED.reason, "Choose to show several pictures separately.")
    most = max((picture.cut for group in groups for picture in group), default=0)
    if most > order.most_tiles and not dialect.caps_tiles:
        raise BadSetting(
            f"{dialect.software} cuts a picture in {order.most_tiles} tiles at most, not {most}.",
            f"Choose {order.most_tiles} tiles or fewer.",
        )


def _message(message: Message, dialect: Dialect, kept: AbstractSet[str]) -> dict[str, Any]:
    pictures = list(message.pictures)
    if not pictures:
        return {"role": message.role, "content": "".join(map(str, message.parts))}
    shown = [_picture(picture, dialect, kept) for picture in pictures]
    if dialect.token:
        words = "".join(
            part if isinstance(part, str) else dialect.token * len(part) for part in message.parts
        )
        return {"role": message.role, "content": [*shown, {"type": "text", "text": words}]}
    return {"role": message.role, "content": list(_interleave(message, shown, dialect.breaks))}


def _interleave(
    message: Message, shown: list[dict[str, Any]], breaks: bool
) -> Iterator[dict[str, Any]]:
    left = iter(shown)
    after_picture = False
    for part in message.parts:
        if not isinstance(part, str):
            yield from (next(left) for _ in part)
            after_picture = True
            continue
        words = part.removeprefix("\n") if after_picture and breaks else part
        after_picture = False
        if words:
            yield {"type": "text", "text": words}


def _picture(picture: Picture, dialect: Dialect, kept: AbstractSet[str]) -> dict[str, Any]:
    if dialect.remembers and picture.key in kept:
        return {"type": "image_url", "image_url": None, "uuid": picture.key}
    shown: dict[str, Any] = {"url": picture.url}
    if dialect.caps_tiles:
        shown["max_dynamic_patch"] = picture.cut
    part: dict[str, Any] = {"type": "image_url", "image_url": shown}
    if dialect.remembers:
        part["uuid"] = picture.key
    return part
