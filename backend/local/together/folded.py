"""sdpa on a processor where heads share keys: their rows lie side by side, nothing is repeated.

transformers 5.24 repeats keys and values for each head where several tokens have a mask, and torch
does where there is none. The same kernel computes each row here. Measured in float32 on 2 cores:
40 tokens over 1,750 take two thirds of the time, one token of each of 8 requests a third. A GPU
has kernels of its own for shared keys, so there transformers' way stays. It knows no pages.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from backend.local.together.places import Group

NAME = "sdpa_folded"  # how transformers' table of attentions calls it


def fold(groups: Iterable[Group], heads: int, dtype: torch.dtype) -> list[Group]:
    """The groups of a step with their masks as `attend_folded` takes them, for all layers."""
    return [
        group if group.mask is None else replace(group, mask=fold_mask(group.mask, heads, dtype))
        for group in groups
    ]


def fold_mask(mask: torch.Tensor, heads: int, dtype: torch.dtype) -> torch.Tensor:
    """A mask [n, 1, tokens, length], true where a token may look, for `heads` that share keys.

    Returns what is added to their scores, [n, 1, heads * tokens, length]: 0 or minus infinity.
    """
    added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    added.masked_fill_(~mask, float("-inf"))
    return added.repeat(1, 1, heads, 1)


def attend_folded(
    module: Any,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of [n, heads, tokens, width] over [n, fewer heads, length, width].

    `mask` comes from `fold_mask`; without one a token looks at all before itself, which must be
    all there is. Returns [n, tokens, heads, width], as transformers' attentions do.
    """
    shape = query.shape
    if mask is None and shape[2] > 1:
        output = scaled_dot_product_attention(
            query, keys, values, is_causal=True, scale=scaling, enable_gqa=True
        )
    else:
        rows = query.reshape(shape[0], keys.shape[1], -1, shape[3])
        output = scaled_dot_product_attention(rows, keys, values, attn_mask=mask, scale=scaling)
    return output.reshape(shape).transpose(1, 2), None
