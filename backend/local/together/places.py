"""Where requests are in a step: whose its tokens are, on which pages, and who is computed at once.

transformers tells pages either in a table (when everybody reads one token) or by naming the place
of every token; when nobody read anything before, it names only places to write. Here all of that
becomes one table. It knows no requests by name, and computes nothing of the network's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.generation.continuous_batching import PagedAttentionCache

FULL = "full_attention"
NOBODYS = 0  # a page that transformers never gives to a request, so that it holds zeros


@dataclass(frozen=True, slots=True)
class Layout:
    """The requests of a step in order; the tokens of number `n` are `bounds[n]`…`bounds[n + 1]`."""

    bounds: Sequence[int]
    lengths: Sequence[int]  # tokens on each one's pages, the step's own included
    table: torch.Tensor  # [requests, pages], int64: the pages of each, then `NOBODYS`
    page: int  # tokens on a page

    def tokens(self, number: int) -> range:
        """The tokens of a request in the step."""
        return range(self.bounds[number], self.bounds[number + 1])

    def pages(self, number: int) -> int:
        """Pages that a request's tokens are on."""
        return -(-self.lengths[number] // self.page)


@dataclass(frozen=True, slots=True)
class Group:
    """Requests for which attention is computed at once, each of as many tokens."""

    tokens: torch.Tensor  # [requests * tokens], int64: which ones of the step
    pages: torch.Tensor  # [requests * pages], int64
    requests: int
    length: int  # tokens on the pages of the longest
    mask: torch.Tensor | None  # true where a token may look; `None`: everywhere before itself


def find_layout(
    cache: PagedAttentionCache, positions: torch.Tensor, given: dict[str, Any]
) -> Layout:
    """The layout of a step, from what transformers 5.24 gives to a network."""
    allocator: Any = cache.cache_allocators[FULL]
    size = int(allocator.tokens_per_page)
    bounds = given["cu_seq_lens_q"].tolist()
    lengths = (positions[[end - 1 for end in bounds[1:]]] + 1).tolist()
    blocks, read, write = given["block_table"], given["read_index"][0], given["write_index"][0]
    if blocks is not None:
        table = blocks[0, :, : -(-max(lengths) // size)].to(torch.int64)
        table = table.clamp_(min=NOBODYS)  # transformers fills up with -1
    else:
        named = torch.split(read if len(read) else write, lengths)
        pages = [places[::size] // size for places in named]
        table = pad_sequence(pages, batch_first=True, padding_value=NOBODYS)
    return Layout(bounds, lengths, table, size)


def find_rows(layout: Layout, positions: torch.Tensor) -> torch.Tensor:
    """For each token of a step, where on the pages its keys and values go."""
    numbers = range(len(layout.lengths))
    owners = [number for number in numbers for _ in layout.tokens(number)]
    at = positions.to(torch.int64)
    page = layout.table[torch.tensor(owners, device=at.device), at // layout.page]
    return page * layout.page + at % layout.page


def find_begun(layout: Layout) -> torch.Tensor:
    """The pages that this step begins and does not fill."""
    begun = [
        (number, layout.pages(number) - 1)
        for number, length in enumerate(layout.lengths)
        if 0 < length % layout.page <= len(layout.tokens(number))
    ]
    numbers, pages = zip(*begun, strict=True) if begun else ((), ())
    where = torch.tensor([numbers, pages], dtype=torch.int64, device=layout.table.device)
    return layout.table[where[0], where[1]]


def group(layout: Layout, mixes: bool) -> list[Group]:
    """Everybody alone, or if attention `mixes` those at once who have one token in the step.

    Of these, the longest has less than twice the pages of the shortest, so that little of what is
    computed is of no use.
    """
    return [_group(layout, numbers) for numbers in _who_with_whom(layout, mixes)]


def _who_with_whom(layout: Layout, mixes: bool) -> Iterator[list[int]]:
    alike: dict[int, list[int]] = {}
    for number in range(len(layout.lengths)):
        if mixes and len(layout.tokens(number)) == 1:
            alike.setdefault(layout.pages(number).bit_length(), []).append(number)
        else:
            yield [number]
    yield from alike.values()


def _group(layout: Layout, numbers: Sequence[int]) -> Group:
    device = layout.table.device
    tokens = [token for number in numbers for token in layout.tokens(number)]
    lengths = [layout.lengths[number] for number in numbers]
    pages = max(map(layout.pages, numbers))
    return Group(
        torch.tensor(tokens, device=device),
        layout.table[torch.tensor(numbers, device=device), :pages].flatten(),
        len(numbers),
        max(lengths),
        causal_mask(len(tokens) // len(numbers), lengths, device),
    )


def causal_mask(tokens: int, lengths: Sequence[int], device: torch.device) -> torch.Tensor | None:
    """True where the last `tokens` of so many may look, [requests, 1, tokens, longest].

    That is up to themselves. `None` where `sdpa` knows without: for one token when all are as
    long, and when nothing was read before. Flash attention aligns its causal mask at the last
    token and never needs one.
    """
    longest = max(lengths)
    if tokens == longest or (tokens == 1 and min(lengths) == longest):
        return None
    last = torch.tensor(lengths, device=device)[:, None, None, None]
    upto = last - torch.arange(tokens - 1, -1, -1, device=device)[None, None, :, None]
    return torch.arange(longest, device=device) < upto
