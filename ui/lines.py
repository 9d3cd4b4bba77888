"""A line of facts as HTML: it breaks between facts, and inside one only where it must. Pure."""

from html import escape

BETWEEN = " · "
ENDED = "&nbsp;·"  # the dot stays with the fact before it


def draw_line(line: str) -> str:
    """`line`, in which `BETWEEN` stands between the facts."""
    *ended, last = escape(line).split(BETWEEN)
    facts = [*(f"{fact}{ENDED}" for fact in ended), last]
    return " ".join(f'<span class="fact">{fact}</span>' for fact in facts)
