"""ChatML rows of token ids, as InternVL's chat template writes them, and what is learnt of each.

A row is either one real chat, or several single questions that share the encoded pictures: these
do not see each other, so one picture teaches many answers for the price of one.
"""

import re
from dataclasses import dataclass, replace

import numpy as np

from training.tokenizer import Codec

TOKENS_PER_TILE = 16
PICTURE = "<image:{}>"
PICTURE_MARK = re.compile(r"<image:(\d+)>")


@dataclass(frozen=True)
class Dialogue:
    """What is said. `head` is the pictures' part of the first question, as `<image:tiles>`."""

    head: str
    turns: tuple[tuple[str, str], ...]
    system: str | None
    separate: bool = False


@dataclass(frozen=True)
class Row:
    """Token ids, which of them are learnt, and for each its segment and position.

    Segment 0 is seen by all later tokens, any other only by its own (see `Network.read`).
    """

    ids: tuple[int, ...]
    learnt: tuple[bool, ...]
    segments: tuple[int, ...]
    positions: tuple[int, ...]


def encode_question(codec: Codec, text: str) -> list[int]:
    """Ids of a user's words; `<image:n>` becomes n tiles between <img> and </img>."""
    ids: list[int] = []
    for number, part in enumerate(PICTURE_MARK.split(text)):
        if number % 2:
            context = [codec.special["<IMG_CONTEXT>"]] * (TOKENS_PER_TILE * int(part))
            ids += [codec.special["<img>"], *context, codec.special["</img>"]]
        elif part:
            ids += codec.encode_words(part)
    return ids


def encode_row(codec: Codec, dialogue: Dialogue) -> Row:
    """One row: the assistant's words and their end are learnt, nothing else."""
    start, end = codec.special["<|im_start|>"], codec.special["<|im_end|>"]
    newline = codec.encode("\n")
    user = [start, *codec.encode("user\n")]
    assistant = [end, *newline, start, *codec.encode("assistant\n")]
    ids: list[int] = []
    if dialogue.system is not None:
        ids = [start, *codec.encode("system\n"), *codec.encode(dialogue.system), end, *newline]
    ids += user + encode_question(codec, dialogue.head)
    shared = len(ids)
    learnt, segments, positions = [False] * shared, [0] * shared, list(range(shared))
    for number, (question, answer) in enumerate(dialogue.turns):
        opening = [] if dialogue.separate or number == 0 else user
        asked = [*opening, *encode_question(codec, question), *assistant]
        told = [*codec.encode(answer), end]
        closing = () if dialogue.separate else newline
        length = len(asked) + len(told) + len(closing)
        origin = shared if dialogue.separate else len(ids)
        ids += [*asked, *told, *closing]
        learnt += [False] * len(asked) + [True] * len(told) + [False] * len(closing)
        segments += [number + 1 if dialogue.separate else 0] * length
        positions += range(origin, origin + length)
    return Row(tuple(ids), tuple(learnt), tuple(segments), tuple(positions))


def encode_prompt(codec: Codec, dialogue: Dialogue) -> list[int]:
    """The ids up to the place where the answer to the last turn begins; its answer is not used."""
    question, _ = dialogue.turns[-1]
    unanswered = replace(dialogue, turns=(*dialogue.turns[:-1], (question, "")))
    closing = 1 if dialogue.separate else 1 + len(codec.encode("\n"))
    return list(encode_row(codec, unanswered).ids[:-closing])


@dataclass(frozen=True)
class Arrays:
    """Rows padded to one length; the last three index the flat rows × length."""

    ids: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    pictures_at: np.ndarray
    predicting: np.ndarray
    targets: np.ndarray


def pad_rows(codec: Codec, rows: list[Row]) -> Arrays:
    """Stack rows; `predicting` are the places whose logits must name `targets`."""
    length = max(len(row.ids) for row in rows)
    length += -length % 8
    ids, segments, positions = (np.zeros((len(rows), length), np.int64) for _ in range(3))
    learnt = np.zeros((len(rows), length), bool)
    for number, row in enumerate(rows):
        used = len(row.ids)
        ids[number, :used] = row.ids
        segments[number, :used] = row.segments
        positions[number, :used] = row.positions
        learnt[number, :used] = row.learnt
    rows_at, columns_at = learnt[:, 1:].nonzero()
    return Arrays(
        ids,
        segments,
        positions,
        (ids.reshape(-1) == codec.special["<IMG_CONTEXT>"]).nonzero()[0],
        rows_at * length + columns_at,
        ids[rows_at, columns_at + 1],
    )
