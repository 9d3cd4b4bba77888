"""Preparation: files are cut and the prompt is written and weighed, beside the event loop.

What makes sense of the question alone is checked here, since two engines have no limits of their
own: it must fit the context, and leave room for an answer.
"""

from dataclasses import dataclass

from backend.conversation import Attachment, Conversation
from backend.errors import EngineError
from backend.media.stopping import Stopped, StopSign
from backend.prompt.budget import Budget, room_for_answer
from backend.prompt.compose import Composer
from backend.remote.pictures import Pictures
from backend.remote.signs import Signs
from backend.remote.wire import Order, read_messages
from backend.stream import AnswerStream

QUICK_CHARS = 4_000  # of a conversation that is prepared sooner than handed to a thread


@dataclass(frozen=True, slots=True)
class Prepared:
    """What any engine can be asked, and what it takes of the context."""

    order: Order
    budget: Budget


def prepare(composer: Composer, pictures: Pictures, signs: Signs, stream: AnswerStream) -> Prepared:
    """Write the stream's request as messages, until it is closed.

    Raises `BadInput` for what cannot be read or does not fit, and `Stopped`.
    """

    def stopped() -> bool:
        return stream.closed

    sampling = stream.request.sampling
    prompt = composer.compose(stream.request.conversation, stopped)
    room = room_for_answer(prompt.budget, sampling.max_new_tokens)
    sent = [one for file in prompt.attachments for one in pictures.of(file, stopped)]
    messages = read_messages(prompt.pieces, sent, signs)
    return Prepared(Order(messages, sampling, room, composer.facts.max_tiles), prompt.budget)


def is_quick(conversation: Conversation) -> bool:
    """Whether preparing takes a millisecond or so: words alone, and not many."""
    chars = len(conversation.system or "")
    for turn in conversation.turns:
        chars += len(turn.question) + (len(turn.answer.text) if turn.answer else 0)
    return chars <= QUICK_CHARS and not conversation.attachments


def make_ready(pictures: Pictures, file: Attachment, stopped: StopSign) -> None:
    """Cut a file that may be asked about; what is wrong with it is told when it is."""
    try:
        pictures.of(file, stopped)
    except (EngineError, Stopped):
        return
