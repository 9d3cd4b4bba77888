"""An engine's own words about what went wrong, found in whatever shape it gives them.

Pure. What is shown of them is short, on one line, and holds neither keys nor pieces of pictures.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

MOST_CHARS = 300
DATA = re.compile(r"data:[\w.+-]*/?[\w.+-]*[;,][^\s\"']{8,}")
BLOB = re.compile(r"[A-Za-z0-9+/=_-]{80,}")


def find_complaint(body: object) -> str:
    """The message of an error body, "" when it is none.

    Five shapes: {"error": {"message"}}, {"error": "…"}, {"object": "error", "message"},
    {"detail": "…"} and {"detail": [{"msg", "loc"}]}; the sixth, plain text, is no JSON.
    """
    if not isinstance(body, Mapping):
        return ""
    error = body.get("error")
    if isinstance(error, Mapping):
        return _text(error.get("message")) or _text(error.get("type")) or "an error"
    if error:
        return _text(error) or "an error"
    if body.get("object") == "error" or ("message" in body and "choices" not in body):
        return _text(body.get("message")) or "an error"
    return _detail(body.get("detail"))


def read_complaint(content: bytes) -> str:
    """The message of an error's body, JSON or plain text; "" for a page of HTML or nothing."""
    text = content.decode("utf-8", "replace").strip()
    try:
        return find_complaint(json.loads(text))
    except (ValueError, RecursionError):
        return "" if text.startswith("<") else text


def fit_to_show(message: str, secrets: Iterable[str] = ()) -> str:
    """`message` as a person may see it."""
    for secret in secrets:
        message = message.replace(secret, "…") if secret else message
    message = BLOB.sub("…", DATA.sub("data:…", message))
    message = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    return message if len(message) <= MOST_CHARS else f"{message[: MOST_CHARS - 1]}…"


def _detail(detail: Any) -> str:
    if isinstance(detail, str):
        return detail
    if not isinstance(detail, list):
        return ""
    said = [_text(entry.get("msg")) for entry in detail if isinstance(entry, Mapping)]
    return "; ".join(filter(None, said)) or ("an error" if detail else "")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
