"""A request of a program, as the conversation and the sampling that an engine understands.

Messages become turns: system messages in front are one instruction, what a user says in a row is
one question, and answers of earlier turns go in as text. Knows no HTTP and no engine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from backend.conversation import (
    MOST_FRAMES,
    MOST_TILES,
    Answer,
    Attachment,
    Conversation,
    Request,
    Sampling,
    Turn,
    check_range,
)
from backend.engine import Inability
from door.files import Fetch, Keep, attach_picture, attach_video
from door.refusals import Refused, about
from door.schema import Asked, Message, Picture, Video, Words

SEEDS = 2**32
# Fields of a request → those of `Sampling`; None means the default.
SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repetition_penalty",
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "seed": "seed",
    "stop": "stop",
}


@dataclass(frozen=True, slots=True)
class Files:
    """How files of a request are kept, fetched (if they may be) and cut."""

    keep: Keep
    fetch: Fetch | None = None
    frames: int | None = None  # of a video
    most_tiles: int = MOST_TILES  # that a `detail` may mean


@dataclass(frozen=True, slots=True)
class Said:
    """What one side said in a row."""

    role: str
    number: int  # of its first message
    text: str
    attachments: tuple[Attachment, ...] = ()


def make_requests(asked: Asked, session: str, files: Files) -> tuple[Request, ...]:
    """One request for each of the `n` answers, all of one conversation.

    Raises `Refused` with the field that is wrong, `BadFile` for a file that cannot be used.
    """
    sampling = read_sampling(asked)
    conversation = read_conversation(asked.messages, replace(files, frames=read_frames(asked)))
    return tuple(
        Request(conversation, _with_seed(sampling, number), session)
        for number in range(asked.n or 1)
    )


def read_sampling(asked: Asked) -> Sampling:
    """How tokens are chosen; greedy where nothing is said. Raises `Refused`."""
    sampling = Sampling()
    for field, name in SAMPLING.items():
        value = getattr(asked, field)
        if value is None:
            continue
        with about(field):
            sampling = replace(sampling, **{name: _spell(field, value)})
    return sampling


def read_frames(asked: Asked) -> int | None:
    """How many frames of a video are wanted. Raises `Refused`."""
    video = asked.media_io_kwargs.video if asked.media_io_kwargs else None
    frames = video.num_frames if video else None
    with about("media_io_kwargs.video.num_frames"):
        check_range("number of frames", frames, 1, MOST_FRAMES)
    return frames


def read_conversation(messages: Sequence[Message], files: Files) -> Conversation:
    """The messages as turns, of which the last waits for its answer. Raises `Refused`."""
    said = list(_gather(messages, files))
    system = None
    if said[0].role == "system":
        system = said.pop(0).text
    turns: tuple[Turn, ...] = ()
    for number, one in enumerate(said):
        expected = "assistant" if number % 2 else "user"
        if one.role != expected:
            raise _misplaced(one, expected)
        if one.role == "user":
            turns = (*turns, Turn(one.text, one.attachments))
        else:
            turns = (*turns[:-1], replace(turns[-1], answer=Answer(one.text)))
    conversation = Conversation(turns, system)
    if not conversation.waits:
        raise Refused(
            400, "The last message must be a user's.", f"messages[{len(messages) - 1}].role",
            "invalid_value",
        )  # fmt: skip
    return conversation


def refuse_inabilities(asked: Asked, request: Request, unable: Sequence[Inability]) -> None:
    """Raise `Refused` for what is asked of an engine that cannot do it."""
    kinds = {file.kind.value for file in request.conversation.attachments}
    changed = {
        name: field
        for field, name in SAMPLING.items()
        if getattr(asked, field) is not None
        and getattr(request.sampling, name) != getattr(Sampling(), name)
    }
    for inability in unable:
        if inability.what in changed or inability.what in kinds:
            field = changed.get(inability.what, "messages")
            raise Refused(400, f"{field}: {inability.reason}", field, "unsupported_parameter")


def _gather(messages: Sequence[Message], files: Files) -> Iterator[Said]:
    """What was said, each side's messages in a row put together."""
    numbered = enumerate(messages)
    for role, group in groupby(numbered, lambda pair: _role_of(pair[1])):
        several = list(group)
        texts: list[str] = []
        attachments: list[Attachment] = []
        for number, message in several:
            for place, part in enumerate(message.parts):
                name = f"messages[{number}].content[{place}]"
                if isinstance(part, Words):
                    texts.append(part.text)
                else:
                    attachments.append(_attach(part, role, name, files))
        yield Said(role, several[0][0], "\n".join(texts), tuple(attachments))


def _role_of(message: Message) -> str:
    return "system" if message.role == "developer" else message.role


def _attach(part: Picture | Video, role: str, name: str, files: Files) -> Attachment:
    if role != "user":
        raise Refused(400, f"{name}: only a user shows files.", name, "invalid_value")
    if isinstance(part, Video):
        return attach_video(part, name, files.keep, files.frames)
    return attach_picture(part, name, files.keep, files.fetch, files.most_tiles)


def _misplaced(one: Said, expected: str) -> Refused:
    place = f"messages[{one.number}].role"
    if one.role == "system":
        words = "System messages must come first."
    else:
        words = f"Here must be a message of the {expected}, not of the {one.role}."
    return Refused(400, words, place, "invalid_value")


def _spell(field: str, value: Any) -> Any:
    """A value as `Sampling` wants it."""
    if field == "stop":
        return (value,) if isinstance(value, str) else tuple(value)
    if field == "top_k" and value == -1:  # all tokens, as vLLM and SGLang have it
        return 0
    if field == "seed" and isinstance(value, int):  # OpenAI's has 64 bits
        return value % SEEDS
    return value


def _with_seed(sampling: Sampling, number: int) -> Sampling:
    if sampling.seed is None:
        return sampling
    return replace(sampling, seed=(sampling.seed + number) % SEEDS)
