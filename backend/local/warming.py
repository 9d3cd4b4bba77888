"""Warming up: one tiny question before anybody asks, so that the first person does not pay.

What a first pass costs (kernels and their workspaces are chosen, memory is fetched, a batch
allocates its pages) is spent while the model is still loading. It goes through the real path,
pictures and text, alone and in the batch. Of it the model keeps nothing; what stays in a batch's
pages, as of any question, yields to whoever needs the room.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from backend.checkpoint.facts import Facts
from backend.checkpoint.tokens import Tokens
from backend.conversation import Conversation, Request, Sampling, Turn
from backend.errors import BadSetting, EngineError, OutOfMemory
from backend.local.compiled import COMPILER
from backend.local.faults import is_out_of_memory, record
from backend.local.model import LocalModel
from backend.local.preparation import Cut, Prepared
from backend.local.worker import Ended
from backend.prompt.budget import Budget
from backend.prompt.compose import Prompt
from backend.prompt.template import CONTEXT, IMAGE_END, IMAGE_START
from backend.settings import OFF, ON
from backend.stream import AnswerStream

ANSWER = 2  # tokens: the first comes from reading, the second from a step
QUESTION = "Hello!"


def warm_up_compiled(
    model: LocalModel,
    wanted: str,
    facts: Facts,
    tokens: Tokens,
    compiler: str | Callable[..., Any] = COMPILER,
) -> None:
    """Warm up with compiled steps, if they are wanted and pay; without, should that fail.

    Raises `BadSetting`, with the reason, when they are insisted on and cannot be had.
    """
    model.open_compiled(wanted, compiler)
    try:
        warm_up(model, facts, tokens)
    except RuntimeError as error:  # torch's compilers raise kinds of it
        if model.compiled is None:
            raise
        record("the steps could not be compiled")
        if wanted == ON:
            reason = " ".join(str(error).partition("\n\n")[0].split())  # then it tells of switches
            raise BadSetting(f"--compile on failed: {reason}.", "Leave it out.") from error
        model.open_compiled(OFF)
        warm_up(model, facts, tokens)


def warm_up(model: LocalModel, facts: Facts, tokens: Tokens) -> None:
    """Answer once alone and, if there is one, once in the batch.

    A device without room for it is no reason not to start: whoever asks will be told.
    """
    prepared = make_question(facts, tokens)
    try:
        model.answer(prepared, _stream())
        batch = model.batching.batch
        if batch is not None:
            batch.join(prepared, _stream())
            while len(batch):
                _require_answers(batch.step())
    except (OutOfMemory, MemoryError, RuntimeError) as error:
        if not (isinstance(error, OutOfMemory) or is_out_of_memory(error)):
            raise
        record("the model could not be warmed up")
        model.recover(short=True)
    finally:
        model.forget()


def _require_answers(ended: Sequence[Ended]) -> None:
    """Raise what a batch tells instead of raising it."""
    for one in ended:
        if isinstance(one.outcome, EngineError):
            raise one.outcome


def make_question(facts: Facts, tokens: Tokens) -> Prepared:
    """A question about one black tile, ready for the model."""
    place = [tokens.special(CONTEXT)] * facts.tokens_per_tile
    words = tokens.encode_plain(QUESTION)
    ids = (tokens.special(IMAGE_START), *place, tokens.special(IMAGE_END), *words)
    budget = Budget(
        text=len(ids) - len(place),
        visual=len(place),
        limit=facts.context_length,
        images=1,
        videos=0,
        tiles=1,
    )
    tiles = np.zeros((1, facts.tile, facts.tile, 3), np.uint8)
    cuts = (Cut(b"warming up", tiles),)
    return Prepared(Prompt(ids, QUESTION, (), budget), cuts, ANSWER)


def _stream() -> AnswerStream:
    chat = Conversation().asked(Turn(QUESTION))
    return AnswerStream(Request(chat, Sampling(max_new_tokens=ANSWER), "warming up"))
