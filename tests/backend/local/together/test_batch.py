"""The batch by itself: what it gives back, whom it lets in, and what it computes only once."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers.generation.continuous_batching import RequestState

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import Attachment, Conversation, End, Kind, Request, Sampling, Turn
from backend.errors import EngineFailed
from backend.local.preparation import Prepared, prepare
from backend.local.stopping import Stopped
from backend.local.together.batch import Batch, Loaded
from backend.local.together.size import Size
from backend.local.together.steps import let_go
from backend.local.waiting import Manner
from backend.stream import AnswerStream
from tests.backend.local.together.crowd import PICTURES, Workshop, finish

SIZE = Size(places=4, pages=40, page=16, chunk=64)
UNSURE = "?"  # to which the bundled checkpoint has two answers that are nearly as likely


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop(BUNDLED_FOLDER)


@pytest.fixture
def endless(workshop: Workshop) -> Iterator[Batch]:
    yield workshop.open_batch(SIZE, endless=True)


def request(question: str, *files: Attachment, room: int = 6, **sampling: Any) -> Request:
    turn = Turn(question, files)
    return Request(Conversation((turn,)), Sampling(max_new_tokens=room, **sampling))


def let_in(workshop: Workshop, batch: Batch, asked: Request) -> AnswerStream:
    stream = workshop.join(batch, asked)
    assert stream is not None
    return stream


def pages_in_use(batch: Batch) -> int:
    cache = batch._steps._processor.cache
    return sum(map(len, cache.cache_allocators["full_attention"].block_table.values()))


def test_a_closed_stream_leaves_at_the_next_step_and_frees_its_pages(
    workshop: Workshop, endless: Batch
) -> None:
    stopped = let_in(workshop, endless, request("Hello!", PICTURES[0], room=200))
    other = let_in(workshop, endless, request("red", room=5))
    for _ in range(3):
        endless.step()
    before = pages_in_use(endless)
    stopped.close()
    (ended,) = endless.step()
    assert (ended.stream, ended.outcome) == (stopped, End.STOPPED)
    assert pages_in_use(endless) < before
    finish(endless)
    assert len(other.token_ids) == 5
    assert pages_in_use(endless) == endless._steps.promised == 0


def test_the_shared_beginning_is_read_once_and_told(workshop: Workshop, endless: Batch) -> None:
    first = let_in(workshop, endless, request("What do you see?", PICTURES[0]))
    finish(endless)
    again = let_in(workshop, endless, request("What do you see now?", PICTURES[0]))
    finish(endless)
    assert first.statistics is not None and first.statistics.cached_tokens == 0
    assert again.statistics is not None
    assert 0 < again.statistics.cached_tokens < again.statistics.prompt_tokens
    assert again.statistics.cached_tokens % SIZE.page == 0
    assert again.token_ids == workshop_answer(workshop, again.request)


def test_another_picture_of_the_same_size_shares_nothing_behind_it(
    workshop: Workshop, endless: Batch
) -> None:
    """Both prompts are the same ids, but for what stands behind the places for pictures."""
    pictures = [Attachment(f"90,90,{k}", Kind.IMAGE, "p", max_tiles=1) for k in (1, 2)]
    streams = []
    for picture in pictures:
        streams.append(let_in(workshop, endless, request("What do you see? " * 9, picture)))
        finish(endless)
    assert streams[1].statistics is not None
    assert streams[1].statistics.cached_tokens <= SIZE.page
    for stream in streams:
        assert stream.token_ids == workshop_answer(workshop, stream.request)


def workshop_answer(workshop: Workshop, asked: Request) -> tuple[int, ...]:
    """By the executor for one, which never thinks that it is done either."""
    facts, workshop.model._facts = workshop.model._facts, replace(workshop.facts, eos_token_ids=())
    try:
        return workshop.answer_alone(asked).ids
    finally:
        workshop.model._facts = facts


def test_each_content_is_encoded_once(workshop: Workshop) -> None:
    batch = workshop.open_batch(SIZE)
    seen: list[int] = []
    encode = batch._features._encode
    batch._features._encode = lambda tiles: (seen.append(len(tiles)), encode(tiles))[1]
    for question in ("What?", "Where?"):
        let_in(workshop, batch, request(question, PICTURES[1]))
        let_in(workshop, batch, request(question, PICTURES[1], PICTURES[0]))
        finish(batch)
    tiles = [sum(workshop.composer.media.look(one).blocks) for one in PICTURES[:2]]
    assert sum(seen) == sum(tiles)


def test_greedy_neighbours_of_one_left_to_chance_stay_as_they_are(
    workshop: Workshop, endless: Batch
) -> None:
    expected = workshop_answer(workshop, request(UNSURE, room=20))
    chances = [let_in(workshop, endless, request(UNSURE, room=20, temperature=2)) for _ in "ab"]
    greedy = let_in(workshop, endless, request(UNSURE, room=20))
    narrow = let_in(workshop, endless, request(UNSURE, room=20, temperature=2, top_k=1))
    # Else one in ten of them would be what is likeliest.
    endless._steps._processor.logit_processor._generator.manual_seed(2)
    finish(endless)
    assert greedy.token_ids == narrow.token_ids == expected
    assert len({expected, *(stream.token_ids for stream in chances)}) == 3


def test_chance_draws_from_what_the_choices_leave(workshop: Workshop, endless: Batch) -> None:
    """With the two likeliest tokens to choose from, both come and no other does."""
    asked = request(UNSURE, room=1, temperature=2, top_k=2)
    prompt = prepare(workshop.composer, AnswerStream(asked)).prompt
    with torch.inference_mode():
        scores = workshop.network(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
    likely = set(scores.topk(2).indices.tolist())
    drawn = set()
    for _ in range(30):
        streams = [let_in(workshop, endless, asked) for _ in range(SIZE.places)]
        finish(endless)
        drawn |= {stream.token_ids[0] for stream in streams}
        if drawn == likely:
            break
    assert drawn == likely


def test_chance_in_the_batch_does_not_disturb_a_seed_elsewhere(
    workshop: Workshop, endless: Batch
) -> None:
    seeded = request("Hello!", room=10, temperature=2, seed=3)
    alone = workshop.answer_alone(seeded).ids
    let_in(workshop, endless, request("Hello!", room=200, temperature=2))
    stream = AnswerStream(seeded)
    workshop.model.answer(prepare(workshop.composer, stream), stream, lambda: _step(endless))
    assert stream.token_ids == alone
    assert len(endless) == 1


def test_a_stop_of_one_alone_does_not_break_a_step_of_the_others(workshop: Workshop) -> None:
    """His stream is closed while their layers run, which look at streams too."""
    model = workshop.model
    loaded = Loaded(
        workshop.network, workshop.facts, model._table, model.features, model.stopped_by
    )
    batch = Batch(loaded, SIZE)
    other = let_in(workshop, batch, request("Hello!", room=6))
    stream = AnswerStream(request("red", room=40, repetition_penalty=1.5))
    handles: list[Any] = []

    def step_and_be_left() -> None:
        layer = workshop.network.model.language_model.layers[0]
        handles.append(layer.register_forward_pre_hook(lambda *_: stream.close()))
        _step(batch)

    with pytest.raises(Stopped):
        model.answer(prepare(workshop.composer, stream), stream, step_and_be_left)
    for handle in handles:
        handle.remove()
    finish(batch)
    assert other.statistics is not None and other.statistics.end is not End.STOPPED
    assert other.token_ids == workshop.answer_alone(other.request).ids


def _step(batch: Batch) -> None:
    assert not batch.step()


def test_a_stop_text_ends_an_answer_in_the_crowd(workshop: Workshop) -> None:
    batch = workshop.open_batch(SIZE)
    whole = workshop.answer_alone(request("Hello!", room=20)).text
    stop = whole[3:6]
    stream = let_in(workshop, batch, request("Hello!", room=20, stop=(stop,)))
    finish(batch)
    assert "".join(stream) == whole[: whole.index(stop)]


def test_who_does_not_fit_now_waits_and_who_never_fits_is_answered_alone(
    workshop: Workshop, endless: Batch
) -> None:
    def judge(asked: Request) -> Manner:
        return endless.judge(prepare(workshop.composer, AnswerStream(asked)), asked)

    long, short = request("Hello!", room=400), request("Hello!", room=6)
    assert judge(request("Hello!", room=SIZE.tokens)) is Manner.ALONE
    assert judge(long) is Manner.TOGETHER
    stream = let_in(workshop, endless, long)
    assert (judge(long), judge(short)) == (Manner.LATER, Manner.TOGETHER)
    stream.close()
    endless.step()
    assert judge(long) is Manner.TOGETHER
    assert judge(request("Hello!", repetition_penalty=1.1)) is Manner.ALONE
    assert judge(request("Hello!", temperature=1, seed=1)) is Manner.ALONE
    assert judge(request("Hello!", seed=1)) is Manner.TOGETHER


def test_a_picture_that_cannot_be_encoded_ends_its_own_request_alone(
    workshop: Workshop, endless: Batch
) -> None:
    other = let_in(workshop, endless, request("Hello!", room=4))
    encode = endless._features._encode

    def fail(tiles: Any) -> Any:
        raise RuntimeError("evil picture")

    endless._features._encode = fail
    with pytest.raises(RuntimeError, match="evil picture"):
        workshop.join(endless, request("What?", PICTURES[2]))
    endless._features._encode = encode
    assert len(endless) == 1
    finish(endless)
    assert len(other.token_ids) == 4


def test_others_take_steps_while_pictures_are_encoded(workshop: Workshop, endless: Batch) -> None:
    endless._features._at_once = 1
    other = let_in(workshop, endless, request("Hello!", room=30))
    let_in(workshop, endless, request("What?", *PICTURES[3:5]))
    assert len(other.token_ids) >= 4
    finish(endless)


def test_a_stream_closed_while_its_pictures_are_encoded_ends_that_within_a_layer(
    workshop: Workshop, endless: Batch
) -> None:
    layers = workshop.network.model.vision_tower.encoder.layer
    reached: list[int] = []
    stream = AnswerStream(request("What?", PICTURES[4]))
    handles = [layers[1].register_forward_pre_hook(lambda *_: stream.close())]
    for number, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(lambda *_, n=number: reached.append(n)))
    with pytest.raises(Stopped):
        endless.join(prepare(workshop.composer, stream), stream)
    for handle in handles:
        handle.remove()
    assert reached == [0, 1]
    assert len(endless) == 0


def test_what_is_kept_of_a_prompt_is_told_before_it_comes_in(
    workshop: Workshop, endless: Batch
) -> None:
    def kept_of(asked: Request) -> int:
        return endless.kept_of(prepare(workshop.composer, AnswerStream(asked)))

    first = request("What do you see? " * 9, PICTURES[0])
    assert kept_of(first) == 0
    let_in(workshop, endless, first)
    finish(endless)
    numbered = endless._rows._numbered
    for asked in (
        request("What do you see? " * 9 + "Now?", PICTURES[0]),
        request("What do you see?", PICTURES[1]),  # nobody saw it: behind it nothing is kept
    ):
        told = kept_of(asked)
        assert endless._rows._numbered == numbered, "who only looks numbers no picture"
        stream = let_in(workshop, endless, asked)
        finish(endless)
        assert stream.statistics is not None and stream.statistics.cached_tokens == told
    prepared = prepare(workshop.composer, AnswerStream(first))
    assert endless.kept_of(prepared) > 2 * SIZE.page
    assert endless.kept_of(replace(prepared, cuts=prepared.cuts * 2)) == 0


def test_when_pages_run_short_the_oldest_prefix_goes_and_the_askers_own_stays(
    workshop: Workshop,
) -> None:
    first, second, third = (request(f"{word} " * 60, room=4) for word in ("red", "blue", "left"))

    def prepared(asked: Request) -> Prepared:
        return prepare(workshop.composer, AnswerStream(asked))

    page, room = 16, 4
    pages = -(-(prepared(first).prompt.budget.total + room) // page)
    size = Size(places=2, pages=2 * pages - 1, page=page, chunk=64)
    batch = workshop.open_batch(size, endless=True)
    for asked in (first, second):
        let_in(workshop, batch, asked)
        finish(batch)
    both = {asked: batch.kept_of(prepared(asked)) for asked in (first, second)}
    assert min(both.values()) > 3 * page
    longer = replace(first, sampling=replace(first.sampling, max_new_tokens=room + 2 * page))
    again = let_in(workshop, batch, longer)
    finish(batch)
    assert again.statistics is not None and again.statistics.cached_tokens == both[first]
    assert batch.kept_of(prepared(second)) < both[second], "it was used longer ago"
    assert batch.kept_of(prepared(first)) == both[first]
    for asked in (third, first, second):
        stream = let_in(workshop, batch, asked)
        finish(batch)
        assert stream.token_ids == workshop_answer(workshop, asked)


def test_no_more_pages_are_let_go_than_are_wanted(workshop: Workshop, endless: Batch) -> None:
    let_in(workshop, endless, request("red " * 60))
    finish(endless)
    cache = endless._steps._processor.cache
    kept = cache.cache_allocators["full_attention"].ledger.cached_blocks
    before, free = len(kept), cache.compute_free_capacity(relative=False)
    oldest = next(iter(kept))
    for wanted, left in ((-1, before), (0, before), (1, before - 1), (2, before - 3)):
        let_go(cache, wanted)
        assert len(kept) == left
    page = cache.cache_allocators["full_attention"].bytes_per_block
    assert cache.compute_free_capacity(relative=False) == free + 3 * page
    assert oldest not in kept
    let_go(cache, before)
    assert not kept


def test_pixels_that_do_not_match_the_prompt_never_come_in(
    workshop: Workshop, endless: Batch
) -> None:
    stream = AnswerStream(request("What?", PICTURES[0]))
    prepared = prepare(workshop.composer, stream)
    wrong = replace(prepared, cuts=prepared.cuts * 2)
    with pytest.raises(EngineFailed, match="places for"):
        endless.join(wrong, stream)
    assert len(endless) == endless._steps.promised == 0


def test_who_could_not_come_in_leaves_nothing_behind(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = workshop.open_batch(SIZE, endless=True)

    def fail() -> None:
        raise MemoryError

    asked = request("What?", PICTURES[0])
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(batch._steps, "_begin", fail)
        workshop.join(batch, asked)
    assert len(batch) == batch._steps.promised == batch._rows._pins.total() == 0
    after = let_in(workshop, batch, asked)
    finish(batch)
    assert after.token_ids == workshop_answer(workshop, asked)


def test_a_broken_step_is_told_to_all_who_took_part_and_forgotten(
    workshop: Workshop, endless: Batch
) -> None:
    streams = [let_in(workshop, endless, request(word)) for word in ("Hello!", "red")]
    endless.step()

    def fail(*_: Any) -> None:
        handle.remove()
        raise RuntimeError("evil step")

    handle = workshop.network.lm_head.register_forward_pre_hook(fail)
    ended = endless.step()
    assert {one.stream for one in ended} == set(streams)
    assert all("RuntimeError, error" in str(one.outcome) for one in ended)
    assert len(endless) == endless._steps.promised == 0
    after = let_in(workshop, endless, request("Hello!"))
    finish(endless)
    assert after.token_ids == workshop_answer(workshop, after.request)


def test_a_long_question_is_read_in_parts_while_others_write(
    workshop: Workshop, endless: Batch
) -> None:
    other = let_in(workshop, endless, request("Hello!", room=60))
    endless.step()
    long = let_in(workshop, endless, request("red " * 300))
    steps = 0
    while not long.token_ids:
        endless.step()
        steps += 1
    assert steps >= 300 // SIZE.chunk
    assert len(other.token_ids) >= steps
    finish(endless)


def test_nothing_waits_in_transformers_own_line(workshop: Workshop, endless: Batch) -> None:
    """Room for everybody who is let in is promised, so that nobody has to make way."""
    for _ in range(SIZE.places):
        workshop.join(endless, request("red " * 150, room=40))
    assert 1 < len(endless) < SIZE.places
    endless.step()
    scheduler = endless._steps._processor.scheduler
    made_way: list[RequestState] = []
    endless._steps._processor.offloading_manager.offload_requests = lambda: made_way.append(1)
    finish(endless)
    assert not made_way and not scheduler.waiting_requests
