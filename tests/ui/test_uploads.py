"""Choices for files at odd moments: refused ones, none typed, no checkpoint known yet."""

from pathlib import Path

import pytest

from backend.conversation import MOST_TILES
from backend.prompt.compose import Composer
from ui.sessions import Sessions
from ui.uploads import accept, choose


def test_a_choice_for_a_refused_or_unknown_file_changes_nothing(
    composer: Composer, files: Path
) -> None:
    session = Sessions().of("one")
    accept(session, [str(files / "words.png")], composer.media)
    before = session.drafts
    assert before[0].attachment is None
    for key in (before[0].key, before[0].key + 1):
        choose(session, key, "max_tiles", "3", composer.media)
    assert session.drafts == before


def test_a_choice_may_be_made_before_the_checkpoint_is_known(files: Path) -> None:
    session = Sessions().of("one")
    accept(session, [str(files / "wide.png")], None)
    choose(session, 1, "max_tiles", str(MOST_TILES), None)
    (draft,) = session.drafts
    assert draft.attachment is not None and draft.attachment.max_tiles == MOST_TILES
    assert not session.cards


@pytest.mark.parametrize("nothing", ["", None])
def test_a_choice_is_taken_back_by_nothing(
    composer: Composer, files: Path, nothing: str | None
) -> None:
    session = Sessions().of("one")
    accept(session, [str(files / "wide.png")], composer.media)
    before = session.drafts
    choose(session, 1, "max_tiles", "3", composer.media)
    assert session.drafts != before
    choose(session, 1, "max_tiles", nothing, composer.media)
    assert session.drafts == before
