"""What the terminal prints: JSON objects whose keys others rely on, and lines for a person.

Pure: values in, text out. Times are rounded to milliseconds, rates to a hundredth.
"""

import json
from collections.abc import Iterable

from backend.conversation import Answer, End, Statistics, Turn

NOTHING_SAID = Statistics(
    prompt_tokens=0, visual_tokens=0, new_tokens=0, ttft_s=0.0, tokens_per_s=0.0, end=End.STOPPED
)
# Line breaks and tabs stay; U+2400… are the pictures of C0 controls, C1 has none.
CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
CONTROLS |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
ENDINGS = {
    End.EOS: "",
    End.LENGTH: "cut at the length allowed (--max-new-tokens)",
    End.STOPPED: "stopped by you",
    End.BROKEN_OFF: "broken off",
}


def write_json(value: object) -> str:
    """JSON on one line, every script of the world left as it is."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def conversation_object(model: str, turns: Iterable[Turn]) -> dict[str, object]:
    """The object of `--json`: every turn that has an answer."""
    return {
        "model": model,
        "turns": [turn_object(turn.question, turn.answer) for turn in turns if turn.answer],
    }


def turn_object(question: str, answer: Answer) -> dict[str, object]:
    """A question and its answer."""
    cost = answer.statistics or NOTHING_SAID
    return {
        "question": question,
        "answer": answer.text,
        "token_ids": list(answer.token_ids),
        "prompt_tokens": cost.prompt_tokens,
        "visual_tokens": cost.visual_tokens,
        "new_tokens": cost.new_tokens,
        "ttft_s": round(cost.ttft_s, 3),
        "tokens_per_s": round(cost.tokens_per_s, 2),
        "end": str(cost.end),
    }


def statistics_line(cost: Statistics) -> str:
    """One quiet line: `2,560 visual + 38 text tokens · first word 0.41 s · …`."""
    parts = [
        f"{cost.visual_tokens:,} visual + {cost.text_tokens:,} text tokens",
        f"{cost.cached_tokens:,} of them read before" if cost.cached_tokens else "",
        f"first word {cost.ttft_s:.2f} s",
        f"{cost.new_tokens:,} new tokens, {cost.tokens_per_s:.1f} a second",
        ENDINGS[cost.end],
    ]
    return " · ".join(part for part in parts if part)


def harmless(text: str) -> str:
    """Text with control characters made visible, so that no answer can steer the terminal."""
    return text.translate(CONTROLS)
