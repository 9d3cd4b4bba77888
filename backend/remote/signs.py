"""Signs of a checkpoint's tokenizer, written out in words. Pure.

Engines read words with a tokenizer that knows its added tokens, so those that a person writes out
are broken; and some engines write them out in answers, where they are left out.
"""

import re
from collections.abc import Iterable

BOXES = ("<ref>", "</ref>", "<box>", "</box>")  # a question may ask with them; the page draws them
# SentencePiece tokenizers have these as signs, yet in an answer they are HTML that was spelled out:
# a chat ends with <|im_end|>, and no model writes <s>.
HTML = ("<s>", "</s>")
# Of every InternVL, also where its tokenizer is not known here; what engines take for the place of
# a picture; and InternLM2's own names for its signs.
ANY = (
    r"<(?=/?(?:img|image|video|IMG_CONTEXT|IMAGE_TOKEN|image_soft_token|tool_call)>"
    r"|\|[A-Za-z_]+\|>|__media)"
    r"|\[(?=UNUSED_TOKEN_\d+\])"
)
BREAK = "\u2060"  # a word joiner: not seen, and no tokenizer takes the sign for one any more


class Signs:
    """Those of one tokenizer, given its added tokens. `left_out` are those no answer shows."""

    def __init__(self, added: Iterable[str] = ()) -> None:
        own = [sign for sign in added if sign not in BOXES]
        self.left_out = tuple(sign for sign in own if sign not in HTML)
        starts = (f"{re.escape(sign[0])}(?={re.escape(sign[1:])})" for sign in own)
        self._starts = re.compile("|".join((ANY, *starts)))

    def break_in(self, text: str) -> str:
        """`text` with every sign in it written so that no tokenizer takes it for one."""
        return self._starts.sub(rf"\g<0>{BREAK}", text)
