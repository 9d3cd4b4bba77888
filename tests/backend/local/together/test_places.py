"""Who is computed with whom in a step, on which pages, and how far each may look."""

from typing import Any

import torch

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import Conversation, Request, Sampling, Turn
from backend.local.together.places import Layout, causal_mask, find_begun, find_rows, group
from backend.local.together.size import Size
from tests.backend.local.together.crowd import PICTURES, Case, Workshop, finish

PAGE = 4
# Three write, after 5, 7 and 30 tokens; one reads 6 tokens after 3.
LENGTHS = (6, 8, 31, 9)
LAYOUT = Layout(
    bounds=(0, 1, 2, 3, 9),
    lengths=LENGTHS,
    table=torch.tensor(
        [[11, 12, *[0] * 6], [21, 22, *[0] * 6], [*range(31, 39)], [41, 42, 43, *[0] * 5]]
    ),
    page=PAGE,
)
POSITIONS = torch.tensor([5, 7, 30, 3, 4, 5, 6, 7, 8], dtype=torch.int32)


def test_each_token_goes_to_its_place_on_its_requests_pages() -> None:
    where = find_rows(LAYOUT, POSITIONS).tolist()
    assert where == [12 * 4 + 1, 22 * 4 + 3, 38 * 4 + 2, 41 * 4 + 3, *range(42 * 4, 43 * 4), 43 * 4]


def test_pages_that_a_step_begins_without_filling_them_are_told() -> None:
    assert find_begun(LAYOUT).tolist() == [43]
    begun = Layout((0, 1, 5), (9, 4), torch.tensor([[1, 2, 3], [4, 0, 0]]), PAGE)
    assert find_begun(begun).tolist() == [3]
    assert find_begun(Layout((0, 1), (4,), torch.tensor([[1]]), PAGE)).tolist() == []


def test_those_about_as_long_who_write_are_computed_at_once() -> None:
    groups = group(LAYOUT, mixes=True)
    assert [one.tokens.tolist() for one in groups] == [[*range(3, 9)], [0, 1], [2]]
    reading, both, longest = groups
    assert (both.requests, both.length, both.pages.tolist()) == (2, 8, [11, 12, 21, 22])
    assert both.mask is not None
    assert both.mask.flatten(1).sum(1).tolist() == [6, 8]
    assert (reading.requests, reading.length, reading.pages.tolist()) == (1, 9, [41, 42, 43])
    assert longest.mask is None


def test_where_attention_cannot_mix_everybody_is_alone() -> None:
    groups = group(LAYOUT, mixes=False)
    assert [one.requests for one in groups] == [1] * 4
    assert [one.length for one in groups] == list(LENGTHS)


def test_a_token_looks_up_to_itself() -> None:
    mask = causal_mask(2, [4], torch.device("cpu"))
    assert mask is not None
    assert mask[0, 0].tolist() == [[True, True, True, False], [True] * 4]
    assert causal_mask(4, [4], torch.device("cpu")) is None
    assert causal_mask(1, [4, 4], torch.device("cpu")) is None


def test_what_broken_answers_left_on_pages_spoils_no_other() -> None:
    """Numbers that are none, where a page has room that its owner did not fill yet."""
    workshop = Workshop(BUNDLED_FOLDER)
    batch = workshop.open_batch(Size(places=4, pages=64, page=16, chunk=64))
    cases = [ask(workshop, "Hello!"), ask(workshop, "What do you see in this?", PICTURES[0])]
    for _ in range(2):
        streams = [workshop.join(batch, case.request) for case in cases]
        finish(batch)
        assert [stream and stream.token_ids for stream in streams] == [case.ids for case in cases]
        spoil(batch._steps._processor.cache)


def ask(workshop: Workshop, question: str, *files: Any) -> Case:
    conversation = Conversation((Turn(question, files),))
    return workshop.answer_alone(Request(conversation, Sampling(max_new_tokens=8)))


def spoil(cache: Any) -> None:
    """Nobody is inside, so all pages but those of nobody may hold anything."""
    cache.evict_cached_blocks()
    cache.cache_tensor[2 * cache.bytes_per_sector :].view(cache.dtype).fill_(float("nan"))
