"""Messages of a decoding child arrive whole and within what was asked for, or not at all."""

import io

import pytest

from backend.media.wire import HEADER, Tag, read_messages, write_message


def sent(*payloads: bytes) -> bytes:
    pipe = io.BytesIO()
    for payload in payloads:
        write_message(pipe, Tag.TILE, payload)
    return pipe.getvalue()


def test_messages_arrive_as_they_were_sent() -> None:
    arrived = read_messages(io.BytesIO(sent(b"one", b"", b"three")), most_bytes=1000)
    assert list(arrived) == [(Tag.TILE, b"one"), (Tag.TILE, b""), (Tag.TILE, b"three")]


@pytest.mark.parametrize("cut", [1, HEADER.size - 1, HEADER.size, HEADER.size + 2])
def test_a_message_that_was_cut_is_told_wherever_it_was_cut(cut: int) -> None:
    content = sent(b"whole", b"half")
    pipe = io.BytesIO(content[: len(sent(b"whole")) + cut])
    messages = read_messages(pipe, most_bytes=1000)
    assert next(messages) == (Tag.TILE, b"whole")
    with pytest.raises(ValueError, match="cut"):
        next(messages)


def test_more_than_was_asked_for_is_not_read() -> None:
    content = sent(b"12345", b"67890")
    assert len(list(read_messages(io.BytesIO(content), len(content)))) == 2
    with pytest.raises(ValueError, match="more was sent"):
        list(read_messages(io.BytesIO(content), len(content) - 1))
