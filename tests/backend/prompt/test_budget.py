"""The budget: what an answer may have, and remedies that hold what they promise."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from backend.conversation import Answer, Attachment, Conversation, Kind, Turn
from backend.errors import TooLong
from backend.prompt.budget import LEAST_ANSWER, Budget, room_for_answer
from backend.prompt.compose import Composer
from tests.backend.checkpoint.folders import ORIGINAL, change_json, copy_small_files
from tests.backend.prompt.pictures import FakeMedia, composer_of, image, video


def budget(total: int, limit: int = 1000, remedy: str = "") -> Budget:
    return Budget(total - 256, 256, limit, images=1, videos=0, tiles=1, remedy=remedy)


def test_an_answer_has_what_was_asked_for():
    assert room_for_answer(budget(500), 100) == 100


def test_an_answer_has_at_most_what_the_context_leaves():
    assert room_for_answer(budget(500), 1024) == 500


def test_the_last_room_is_that_of_a_short_answer():
    assert room_for_answer(budget(1000 - LEAST_ANSWER), 1024) == LEAST_ANSWER
    with pytest.raises(TooLong, match="985 of 1,000 tokens .*: no room is left"):
        room_for_answer(budget(1000 - LEAST_ANSWER + 1), 1024)
    with pytest.raises(TooLong, match="1,000 of 1,000 tokens .*: no room is left"):
        room_for_answer(budget(1000), 1024)
    with pytest.raises(TooLong, match="1,001 of 1,000 tokens .*: it does not fit"):
        room_for_answer(budget(1001), 1024)


def test_too_long_tells_the_numbers_and_the_remedy():
    long = Budget(1000, 40_000, 32_768, 3, 1, 156, "Use 24 frames or 6 tiles.")
    with pytest.raises(TooLong) as error:
        room_for_answer(long, 1)
    assert str(error.value) == (
        "41,000 of 32,768 tokens (40,000 visual, 1,000 text): it does not fit. "
        "Use 24 frames or 6 tiles."
    )


@pytest.fixture
def composer(tmp_path: Path) -> Composer:
    return with_context(tmp_path, 4096)


def with_context(tmp_path: Path, length: int) -> Composer:
    folder = copy_small_files(ORIGINAL, tmp_path / str(length))
    config = {"max_position_embeddings": length, "vocab_size": 512}
    change_json(folder / "config.json", llm_config=config)
    return composer_of(folder, FakeMedia(frames=64))


def with_files(conversation: Conversation, files: list[Attachment]) -> Conversation:
    last = replace(conversation.turns[-1], attachments=tuple(files))
    return replace(conversation, turns=(*conversation.turns[:-1], last))


def obeying(conversation: Conversation, tiles: int = 99, frames: int = 999) -> Conversation:
    """The conversation after a person did what a remedy said."""
    return with_files(
        conversation,
        [
            replace(file, max_tiles=min(tiles, file.max_tiles or 12))
            if file.kind is Kind.IMAGE
            else replace(file, frames=min(frames, file.frames or 64))
            for file in conversation.turns[-1].attachments
        ],
    )


def ask(*files: Attachment) -> Conversation:
    return Conversation((Turn("Q", files),))


def test_what_fits_needs_no_remedy(composer: Composer):
    assert composer.measure(ask(image(12))).remedy == ""


def numbers_in(remedy: str, words: str) -> list[int]:
    """The numbers of a remedy that reads as `words`, with # for each number."""
    found = re.fullmatch(re.escape(words).replace(r"\#", r"(\d+)"), remedy)
    assert found, remedy
    return [int(number) for number in found.groups()]


def test_the_remedy_is_the_largest_number_of_tiles_that_fits(composer: Composer):
    conversation = ask(image(12), image(12), image(5))
    (tiles,) = numbers_in(composer.measure(conversation).remedy, "Use # tiles per image.")
    assert composer.measure(obeying(conversation, tiles=tiles)).fits
    assert not composer.measure(obeying(conversation, tiles=tiles + 1)).fits


def test_the_remedy_is_the_largest_number_of_frames_that_fits(composer: Composer):
    conversation = ask(video(100))
    (frames,) = numbers_in(composer.measure(conversation).remedy, "Use # frames.")
    assert composer.measure(obeying(conversation, frames=frames)).fits
    assert not composer.measure(obeying(conversation, frames=frames + 1)).fits


def test_fewer_frames_or_fewer_tiles_may_each_be_enough(composer: Composer):
    conversation = ask(image(7), video(12))
    frames, tiles = numbers_in(composer.measure(conversation).remedy, "Use # frames or # tiles.")
    assert composer.measure(obeying(conversation, frames=frames)).fits
    assert composer.measure(obeying(conversation, tiles=tiles)).fits
    assert not composer.measure(obeying(conversation, frames=frames + 1)).fits
    assert not composer.measure(obeying(conversation, tiles=tiles + 1)).fits


def test_both_are_named_when_only_both_are_enough(composer: Composer):
    conversation = ask(*[image(12)] * 2, video(64), video(64))
    frames, tiles = numbers_in(
        composer.measure(conversation).remedy, "Use # frames per video and # tile per image."
    )
    assert tiles == 1
    assert composer.measure(obeying(conversation, tiles=1, frames=frames)).fits
    assert not composer.measure(obeying(conversation, tiles=1, frames=frames + 1)).fits


def test_a_video_is_not_opened_for_every_guess(tmp_path: Path):
    media = FakeMedia(frames=64)
    folder = with_context(tmp_path, 4096).facts.folder
    assert composer_of(folder, media).measure(ask(video(100))).remedy
    assert media.looked == [video(100)]


def test_a_video_is_not_opened_for_a_guess_at_tiles_either(tmp_path: Path):
    media = FakeMedia(frames=64)
    folder = with_context(tmp_path, 4096).facts.folder
    assert "tiles" in composer_of(folder, media).measure(ask(image(7), video(12))).remedy
    assert [file for file in media.looked if file.kind is Kind.VIDEO] == [video(12)]


def test_files_of_earlier_turns_are_not_opened_for_every_guess(tmp_path: Path):
    media = FakeMedia(frames=64)
    folder = with_context(tmp_path, 4096).facts.folder
    earlier = Turn("Q", (image(1),), answer=Answer("A"))
    asked = Conversation((earlier, Turn("R", (video(100),))))
    assert "frames" in composer_of(folder, media).measure(asked).remedy
    assert media.looked == [image(1), video(100)]


def test_a_remedy_never_raises_what_was_chosen_lower(composer: Composer):
    conversation = ask(image(12), image(12), image(12, max_tiles=2))
    (tiles,) = numbers_in(composer.measure(conversation).remedy, "Use # tiles per image.")
    assert composer.measure(obeying(conversation, tiles=tiles)).fits
    assert not composer.measure(obeying(conversation, tiles=tiles + 1)).fits

    conversation = ask(video(64), video(64, frames=2))
    (frames,) = numbers_in(composer.measure(conversation).remedy, "Use # frames per video.")
    assert composer.measure(obeying(conversation, frames=frames)).fits
    assert not composer.measure(obeying(conversation, frames=frames + 1)).fits


def test_too_many_pictures_are_asked_in_parts(composer: Composer):
    conversation = ask(*[image(12)] * 30)
    (files, _) = numbers_in(
        composer.measure(conversation).remedy,
        "Use # files at a time, with # tile or frame each.",
    )
    flat = obeying(conversation, tiles=1, frames=1)
    shown = list(flat.turns[-1].attachments)
    assert composer.measure(with_files(flat, shown[:files])).fits
    assert not composer.measure(with_files(flat, shown[: files + 1])).fits


def test_a_long_text_is_to_be_shortened(composer: Composer):
    assert composer.measure(Conversation((Turn("word " * 9000, (image(1),)),))).remedy == (
        "Shorten the text."
    )


def test_a_long_history_calls_for_a_new_chat(composer: Composer):
    first = Turn("word " * 4000, answer=Answer("A"))
    assert composer.measure(Conversation((first, Turn("Q")))).remedy == "Start a new chat."
    assert composer.measure(Conversation((first,))).remedy == "Start a new chat."


def test_pictures_that_history_leaves_no_room_for_call_for_a_new_chat(composer: Composer):
    first = Turn("Q", (image(12),), answer=Answer("A"))
    crowded = Conversation((first, Turn("R", tuple([image(1)] * 4))))
    assert composer.measure(crowded).remedy == "Start a new chat."
    assert composer.measure(replace(crowded, turns=crowded.turns[1:])).fits


def test_pictures_that_a_new_chat_would_not_hold_either_are_asked_in_parts(composer: Composer):
    first = Turn("Q", (image(6),), answer=Answer("A"))
    crowded = Conversation((first, Turn("R", tuple([image(1)] * 20))))
    (files, _) = numbers_in(
        composer.measure(crowded).remedy, "Use # files at a time, with # tile or frame each."
    )
    assert composer.measure(with_files(crowded, [image(1)] * files)).fits
    assert not composer.measure(with_files(crowded, [image(1)] * (files + 1))).fits


def test_a_file_that_no_context_holds_is_left_out(tmp_path: Path):
    composer = with_context(tmp_path, 256)
    assert composer.measure(ask(image(1))).remedy == "Ask without files."


def test_composing_tells_the_remedy_too(composer: Composer):
    conversation = ask(image(12), image(12))
    with pytest.raises(TooLong, match=r"Use \d tiles per image\.") as error:
        room_for_answer(composer.compose(conversation).budget, 100)
    assert "of 4,096 tokens" in error.value.cause
