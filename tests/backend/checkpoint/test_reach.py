"""Whether a checkpoint could be had, with the hub's client cut off or scripted."""

import json
import struct
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub import constants

from backend.checkpoint import reach
from backend.checkpoint.reach import can_be_fetched, free_in_cache, is_here

COMMIT = "0" * 40


def cache_weights(cache: Path, size: int = 4) -> None:
    """A snapshot of the 1B as the hub's client keeps it, with one file of weights."""
    repository = cache / "models--OpenGVLab--InternVL3-1B-hf"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    packed = struct.pack("<Q", len(header)) + header + bytes(size)
    (folder / "model.safetensors").write_bytes(packed)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_whole_weights_in_the_cache_are_here(cache: Path) -> None:
    assert not is_here("1B")
    cache_weights(cache)
    assert is_here("1B") and not is_here("2B")


def test_weights_cut_short_are_not_here(cache: Path) -> None:
    cache_weights(cache, size=3)
    assert not is_here("1B")


@pytest.mark.parametrize(
    ("answer", "expected"), [(None, True), (httpx.ConnectError("no route to host"), False)]
)
def test_what_the_hub_answers_for_can_be_fetched(
    cache: Path, monkeypatch: pytest.MonkeyPatch, answer: Exception | None, expected: bool
) -> None:
    asked: list[str] = []

    def model_info(self: object, repository: str, timeout: float) -> None:
        asked.append(repository)
        if answer is not None:
            raise answer

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    assert can_be_fetched("2B", 10) is expected
    assert asked == ["OpenGVLab/InternVL3-2B-hf"]


def test_what_finds_no_room_on_the_disk_is_not_asked_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(huggingface_hub.HfApi, "model_info")
    assert not can_be_fetched("78B", free_in_cache() + 10**12)


def test_the_disk_of_a_cache_that_is_not_there_yet_is_measured(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "a" / "b"))
    assert free_in_cache() > 0


def test_the_bundled_one_is_not_on_the_hub() -> None:
    with pytest.raises(ValueError, match="bundled"):
        reach.is_here("bundled")
