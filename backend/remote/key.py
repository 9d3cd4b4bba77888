"""The key that engines want: read from a file once, sent to them, and shown nowhere."""

from pathlib import Path

from backend.errors import BadSetting

MOST_CHARS = 4096
OPTION = "--api-key-file"


def read_key(file: str | None) -> str:
    """The key in the first line of `file`; "" without a file. Raises `BadSetting`."""
    if file is None:
        return ""
    try:
        with Path(file).expanduser().open(encoding="ascii") as stream:
            key = stream.readline(MOST_CHARS).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(
            f"The file of {OPTION} cannot be read ({type(error).__name__}).",
            "Name a file of which the first line is the key.",
        ) from None
    if not key or not key.isprintable():
        raise BadSetting(f"The file of {OPTION} holds no key.", "Write it into the first line.")
    return key
