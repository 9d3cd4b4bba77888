"""Both ways of the benchmark's conversation answer the same; its figures are put together right."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.checkpoint.facts import read_facts
from benchmarks import chat, chat_lab, memory
from benchmarks.chat_lab import QUESTIONS, ChatLab, Round
from benchmarks.weights import MAX_TILES, TOKENS_PER_TILE, make_checkpoint

card_pixels = chat_lab.load_image


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatLab]:
    folder = tmp_path_factory.mktemp("chat")
    with pytest.MonkeyPatch.context() as patch:  # so that few tiles are seen here
        patch.setattr(chat_lab, "WIDTH", 600)
        patch.setattr(chat_lab, "HEIGHT", 300)
        lab = ChatLab(make_checkpoint(folder / "weights"), folder)
        yield lab
        lab.engine.close()


def test_the_checkpoint_is_as_large_as_it_says(tmp_path: Path) -> None:
    facts = read_facts(make_checkpoint(tmp_path))
    assert (facts.tile, facts.tokens_per_tile) == (448, TOKENS_PER_TILE)
    assert (facts.max_tiles, facts.thumbnail) == (MAX_TILES, True)


def test_a_round_has_a_figure_for_every_turn_and_equal_answers(
    lab: ChatLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_lab, "TYPING_S", 0.01)
    measured = lab.run_round(1)  # raises if the two ways answer differently
    assert len(measured.ours) == len(QUESTIONS) == len(measured.rival)
    assert min(*measured.ours, *measured.rival, measured.typed) > 0


def test_another_answer_is_not_compared(lab: ChatLab, monkeypatch: pytest.MonkeyPatch) -> None:
    files = lab._draw(70)
    asked = lab._chat(files, "one")
    monkeypatch.setattr(chat_lab, "load_image", lambda path: -card_pixels(path))
    with pytest.raises(RuntimeError, match="turn 1 differently"):
        lab._chat_as_the_card(asked)


def test_the_first_turn_is_told_apart_from_the_later_ones() -> None:
    rounds = [Round((1.0, 0.1, 0.1, 0.1), (2.0, 4.0, 4.0, 4.0), 0.5, (0, 0.9, 0.8, 1))] * 3
    fresh, typed, later, kept = chat.report(rounds)
    assert fresh.ratio is not None and fresh.ratio.median == 2 and fresh.goal is None
    assert typed.ratio is not None and typed.ratio.median == 4
    assert typed.goal is not None and typed.goal.holds
    assert later.ratio is not None and later.ratio.median == pytest.approx(40)
    assert later.goal is not None and later.goal.holds and later.ours.most == pytest.approx(100)
    assert (kept.ours.least, kept.ours.median, kept.unit) == (80, 90, "%")


def test_memory_is_compared_with_that_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "WARMING", 2)
    monkeypatch.setattr(memory, "QUICK_REQUESTS", 3)
    (measured,) = memory.measure(quick=True)
    assert measured.rival is not None and measured.rival.median > 100  # MB
    assert measured.name.startswith("Resident memory after 3 requests")
