"""Boxes of an answer, drawn on the picture that they are about."""

from backend.media.reader import MediaReader

from backend.conversation import Conversation


def draw_overlay(conversation: Conversation, media: MediaReader) -> str | None:
    """The path of the picture with the last answer's boxes, if it has any."""
    return None
