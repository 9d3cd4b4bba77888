"""A turn with its answer, as several tests of the terminal need one."""

from backend.conversation import Answer, End, Statistics, Turn

COST = Statistics(
    prompt_tokens=2598,
    visual_tokens=2560,
    new_tokens=3,
    ttft_s=0.41234,
    tokens_per_s=31.4159,
    end=End.EOS,
)
ANSWERED = Turn("What is this?", answer=Answer("一只 red panda.", (5, 6, 7), COST))
