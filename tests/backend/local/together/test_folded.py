"""Heads that share keys, side by side: the same numbers as transformers' sdpa."""

from types import SimpleNamespace

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from backend.local.together.folded import attend_folded, fold_mask
from backend.local.together.places import causal_mask

HEADS, SHARED, WIDTH = 6, 2, 32  # of queries; of keys and values
CASES = (
    pytest.param(1, [50], id="one token of one request"),
    pytest.param(1, [50, 50, 50], id="one token of some as long"),
    pytest.param(1, [50, 31, 7], id="one token of some of other lengths"),
    pytest.param(20, [50], id="twenty tokens after thirty"),
    pytest.param(50, [50], id="all at the beginning"),
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("tokens", "lengths"), CASES)
def test_every_row_is_computed_as_transformers_does(
    tokens: int, lengths: list[int], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    query = torch.randn(len(lengths), HEADS, tokens, WIDTH, dtype=dtype)
    keys, values = torch.randn(2, len(lengths), SHARED, max(lengths), WIDTH, dtype=dtype)
    mask = causal_mask(tokens, lengths, query.device)
    module = SimpleNamespace(num_key_value_groups=HEADS // SHARED, is_causal=True)
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]
    usual, _ = sdpa(module, query, keys, values, mask, scaling=0.25)
    folded = None if mask is None else fold_mask(mask, HEADS // SHARED, dtype)
    ours, _ = attend_folded(module, query, keys, values, folded, scaling=0.25)
    assert ours.shape == (len(lengths), tokens, HEADS, WIDTH)
    torch.testing.assert_close(ours, usual, rtol=0, atol=2e-2 if dtype.itemsize == 2 else 1e-6)
    assert not torch.equal(ours[:, :, 0], ours[:, :, 1]), "heads are apart"


def test_a_mask_holds_for_each_head_that_shares_keys() -> None:
    mask = causal_mask(2, [3], torch.device("cpu"))
    assert mask is not None
    never = float("-inf")
    rows = [[0, 0, never], [0, 0, 0]]
    assert fold_mask(mask, 3, torch.float32).tolist() == [[3 * rows]]
