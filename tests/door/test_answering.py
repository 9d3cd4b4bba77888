"""Listening to answers: everything comes, and at once when there is nothing to wait for."""

import asyncio

import pytest

from backend.conversation import Conversation, Request, Turn
from backend.stream import AnswerStream
from door import answering
from door.answering import News, listen


def test_an_end_that_was_told_along_with_the_last_text_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream tells once of all that is there; what the text hid must be asked for again."""
    monkeypatch.setattr(answering, "SILENCE_S", 1.0)
    stream = AnswerStream(Request(Conversation((Turn("?"),))))

    def write_all() -> None:
        stream.write("all ", [1])
        stream.write("of it", [2])
        stream.finish()

    async def hear() -> list[News]:
        asyncio.get_running_loop().call_soon(write_all)  # once the listener waits
        return [news async for news in listen([stream])]

    assert asyncio.run(hear()) == [News(0, "all of it"), News(0, None)]
