"""A line of facts as HTML: it breaks between facts, and inside one only where it must. Pure."""

import re
from html import escape

BETWEEN = " · "
ENDED = "&nbsp;·"  # the dot stays with the fact before it
UNIT = re.compile(r"(?<=\d) (?=%|[GM]B\b|s\b|px\b)")  # what a number is not parted from


def draw_line(line: str) -> str:
    """`line`, in which `BETWEEN` stands between the facts."""
    *ended, last = UNIT.sub("&nbsp;", escape(line)).split(BETWEEN)
    facts = [*(f"{fact}{ENDED}" for fact in ended), last]
    return " ".join(f'<span class="fact">{fact}</span>' for fact in facts)
