"""The chat template: a conversation as pieces of text, special tokens and pictures' places.

Writes what `model.chat` of the model card writes (template internvl2_5 of OpenGVLab/InternVL
@2410d1d: the system prompt always, `<|im_end|>\n` after every message). Pure: it opens no file
and counts no text. A person's words come out as `Text` only, so they cannot become anything else.

Pictures of a turn stand before its question, in the order of the files:

    one picture           <image>\n
    several               Image-1: <image>\nImage-2: <image>\n
    several, combined     <image>\n, all tiles behind one <img>
    a video               Frame1: <image>\nFrame2: <image>\n…
    several videos        Video-1:\nFrame1: <image>\n…Video-2:\nFrame1: <image>\n…

Numbers run on through the conversation, and a lone picture bears none, as in InternVL's own chat
demo (streamlit_demo/model_worker.py @2632c66, `global_image_cnt`): once a second picture comes in
a later turn, the two are Image-1 and Image-2. Combined pictures are counted but not labelled.
The card has no form for several videos in one conversation; `Video-1:` is ours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backend.conversation import Answer, Attachment, Conversation, Kind, Turn

START, END = "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE_END, CONTEXT = "<img>", "</img>", "<IMG_CONTEXT>"


@dataclass(frozen=True, slots=True)
class Text:
    """Words, to be read as nothing but words."""

    text: str


@dataclass(frozen=True, slots=True)
class Special:
    """One added token of the tokenizer."""

    token: str


@dataclass(frozen=True, slots=True)
class Tiles:
    """The place of `count` tiles, each of which becomes a run of context tokens."""

    count: int


Piece = Text | Special | Tiles
Blocks = Callable[[Attachment], tuple[int, ...]]  # tiles of each <image> of a file
Recall = Callable[[Answer], str]  # an earlier answer as the model is to read it


def write_prompt(
    conversation: Conversation, system: str, blocks: Blocks, recall: Recall
) -> Iterator[Piece]:
    """The pieces of the whole prompt; the answer of a waiting last turn is left to be written."""
    own = conversation.system
    yield from _message("system", [Text(system if own is None else own)])
    labels = _Labels(conversation.attachments)
    for turn in conversation.turns:
        yield from _message("user", [*_pictures(turn, labels, blocks), Text(turn.question)])
        if turn.answer is not None:
            yield from _message("assistant", [Text(recall(turn.answer))])
    if conversation.waits:
        yield from _opening("assistant")


def order_of(turn: Turn) -> tuple[Attachment, ...]:
    """The files of a turn in the order in which the prompt shows them."""
    return tuple(file for group in _groups(turn) for file in group)


def _opening(role: str) -> list[Piece]:
    return [Special(START), Text(f"{role}\n")]


def _message(role: str, content: list[Piece]) -> Iterator[Piece]:
    yield from _opening(role)
    yield from content
    yield from (Special(END), Text("\n"))


def _groups(turn: Turn) -> list[tuple[Attachment, ...]]:
    """Files that share a place: each its own, but all combined pictures that of the first."""
    images = tuple(file for file in turn.attachments if file.kind is Kind.IMAGE)
    if not turn.combined or len(images) < 2:
        return [(file,) for file in turn.attachments]
    first = turn.attachments.index(images[0])
    videos = [(file,) for file in turn.attachments if file.kind is Kind.VIDEO]
    return [*videos[:first], images, *videos[first:]]


class _Labels:
    """Numbers the pictures and the videos of one conversation while its prompt is written."""

    def __init__(self, attachments: tuple[Attachment, ...]) -> None:
        kinds = [file.kind for file in attachments]
        self._numbered = {kind: kinds.count(kind) > 1 for kind in Kind}
        self._seen = dict.fromkeys(Kind, 0)

    def next(self, files: tuple[Attachment, ...]) -> str:
        """The label before a group of files."""
        kind = files[0].kind
        self._seen[kind] += len(files)
        if not self._numbered[kind] or len(files) > 1:
            return ""
        number = self._seen[kind]
        return f"Image-{number}: " if kind is Kind.IMAGE else f"Video-{number}:\n"


def _pictures(turn: Turn, labels: _Labels, blocks: Blocks) -> Iterator[Piece]:
    for group in _groups(turn):
        yield Text(labels.next(group))
        tiles = [count for file in group for count in blocks(file)]
        if group[0].kind is Kind.IMAGE:
            yield from _place(sum(tiles))
            continue
        for number, count in enumerate(tiles, start=1):
            yield Text(f"Frame{number}: ")
            yield from _place(count)


def _place(tiles: int) -> list[Piece]:
    return [Special(IMAGE_START), Tiles(tiles), Special(IMAGE_END), Text("\n")]
