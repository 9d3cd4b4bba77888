"""Each recorded tokenizer of pieces in turn, for what reads it, asks in it and writes in it."""

from pathlib import Path

import pytest

from backend.checkpoint.tokenizer import read_tokens
from backend.checkpoint.tokens import Tokens
from tests.backend.checkpoint.recorded_pieces import RECORDED, Recorded


@pytest.fixture(params=RECORDED, ids=str)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    one: Recorded = request.param
    return one


@pytest.fixture
def folder(recorded: Recorded, tmp_path: Path) -> Path:
    return recorded.write(tmp_path / "checkpoint")


@pytest.fixture
def tokens(folder: Path) -> Tokens:
    return read_tokens(folder)
