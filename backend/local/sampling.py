"""How tokens are chosen, in the words of transformers' `generate`. Knows no model."""

from collections.abc import Sequence

import torch
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from backend.conversation import Sampling


def configure(sampling: Sampling, room: int, eos: Sequence[int]) -> GenerationConfig:
    """Everything is said, since what is left out may come from a default elsewhere.

    transformers refuses whole numbers where it wants fractions, hence `float`.
    """
    chance = sampling.temperature > 0
    return GenerationConfig(
        max_new_tokens=room,
        do_sample=chance,
        temperature=float(sampling.temperature) if chance else None,
        top_p=float(sampling.top_p) if chance else None,
        top_k=int(sampling.top_k) if chance else None,
        repetition_penalty=1.0,
        num_beams=1,
        use_cache=True,
        eos_token_id=list(eos),
        pad_token_id=eos[0] if eos else 0,
    )


def penalise(sampling: Sampling, prompt_tokens: int) -> LogitsProcessorList:
    """The repetition penalty over new tokens alone.

    So does `model.chat`, which hands embeddings to `generate`, so that the prompt's ids are
    never seen; a penalty over the prompt would punish the words of the question.
    """
    if sampling.repetition_penalty == 1:
        return LogitsProcessorList()
    return LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(
                float(sampling.repetition_penalty), prompt_ignore_length=prompt_tokens
            )
        ]
    )


def seed(value: int | None) -> None:
    """Make sampling repeatable, or surely not so after an earlier request was."""
    if value is None:
        torch.seed()
    else:
        torch.manual_seed(value)
