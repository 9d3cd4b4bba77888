"""Options of the door for programs, and the file of its keys."""

import re
from dataclasses import replace
from pathlib import Path

from backend.errors import BadSetting
from backend.settings import Settings
from terminal.parser import Parser, options

LEAST_KEY = 8  # characters: what is shorter is guessed soon


def add_door_options(parser: Parser) -> None:
    """`--door-key-file` and `--allow-picture-urls`."""
    door = options(parser, "programs (OpenAI's API under /v1)")
    door.group.add_argument(
        "--door-key-file",
        dest="door_keys",
        type=read_keys,
        metavar="F",
        help="file with a key a line, one of which programs must show (default: any may ask)",
    )
    door.switch("--allow-picture-urls", "fetch pictures that programs name by http(s) addresses")


def with_own_keys(settings: Settings) -> Settings:
    """`settings`, where `--api-key-file` means the door if there is no engine that wants a key.

    Raises `BadSetting` as `read_keys` does, and for keys of the door in two files.
    """
    if settings.api_key_file is None or settings.remote:
        return settings
    if settings.door_keys:
        raise BadSetting(
            "Without --engine both --api-key-file and --door-key-file are keys of programs.",
            "Leave one out.",
        )
    return replace(settings, door_keys=read_keys(settings.api_key_file), api_key_file=None)


def read_keys(path: str) -> tuple[str, ...]:
    """The keys in a file, one a line; empty lines and those that begin with # are none.

    Raises `BadSetting`, which tells no key, when there is none or one that cannot be sent.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise BadSetting(
            f"The file of keys {path!r} cannot be read ({reason}).", "Name another."
        ) from None
    stripped = ((number, line.strip()) for number, line in enumerate(lines, start=1))
    keys = {number: line for number, line in stripped if line and not line.startswith("#")}
    if not keys:
        raise BadSetting(f"There is no key in {path!r}.", "Write one a line.")
    for number, key in keys.items():
        if len(key) < LEAST_KEY or not re.fullmatch(r"[!-~]+", key):
            raise BadSetting(
                f"The key in line {number} of {path!r} cannot be used.",
                f"Take at least {LEAST_KEY} letters, digits and signs, without spaces.",
            )
    return tuple(keys.values())
