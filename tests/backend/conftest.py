"""Each recorded tokenizer of pieces in turn, for what reads it, asks in it and writes in it."""

import pytest

from tests.backend.checkpoint.recorded_pieces import RECORDED, Recorded


@pytest.fixture(params=RECORDED, ids=str)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    one: Recorded = request.param
    return one
