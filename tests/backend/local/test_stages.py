"""The share of a loading grows over fetching and placing, with a word which."""

import pytest

from backend.local.stages import FETCHING, Stages, describe_fetching


class Told:
    """Remembers shares and words as an engine does."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.words: list[str] = []

    def __call__(self, share: float, doing: str = "placing") -> None:
        self.shares.append(share)
        self.words.append(doing)


def test_a_share_grows_over_both_stages() -> None:
    told = Told()
    stages = Stages(told)
    for done in (0, 500_000_000, 2_000_000_000):
        stages.follow(done, 2_000_000_000)
    for share in (0.0, 0.5, 1.0):
        stages.place(share)
    assert told.shares == sorted(told.shares)
    assert told.shares[0] == 0 and told.shares[-1] == 1
    assert told.shares[2] == FETCHING
    assert told.words == [
        "downloading 0.0 of 2.0 GB",
        "downloading 0.5 of 2.0 GB",
        "downloading 2.0 of 2.0 GB",
        *["placing"] * 3,
    ]


def test_placing_is_the_whole_where_nothing_was_fetched() -> None:
    told = Told()
    stages = Stages(told)
    stages.follow(0, 0)
    stages.place(0.25)
    assert told.shares == [0, 0.25] and told.words == ["asking the hub", "placing"]


def test_what_the_report_raises_passes() -> None:
    def report(share: float, doing: str = "") -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Stages(report).follow(1, 2)


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [
        (1_234_000_000, 4_178_000_000, "downloading 1.2 of 4.2 GB"),
        (0, 156_800_000_000, "downloading 0.0 of 156.8 GB"),
        (3_400_000, 11_000_000, "downloading 3 of 11 MB"),
    ],
)
def test_bytes_are_told_in_two_figures(done: int, total: int, said: str) -> None:
    assert describe_fetching(done, total) == said
