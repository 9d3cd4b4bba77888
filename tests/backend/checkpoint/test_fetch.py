"""Fetching with the hub's own client from a stand-in for the hub: bytes told, and left alone."""

import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import DryRunError

from backend.checkpoint.facts import read_facts
from backend.checkpoint.fetch import Tally, fetch
from backend.checkpoint.find import find_checkpoint
from backend.checkpoint.reach import is_here
from backend.errors import BadCheckpoint
from tests.backend.checkpoint.folders import ORIGINAL, copy_small_files
from tests.backend.checkpoint.scripted_hub import PIECE, ScriptedHub, serve, take_for_the_hub
from tests.waiting import wait_until

WAIT_S = 20
WEIGHTS = 40 * PIECE


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedHub]:
    folder = copy_small_files(ORIGINAL, tmp_path / "there")
    write_weights(folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(bytes(WEIGHTS))
    with serve(ScriptedHub(folder)) as hub:
        take_for_the_hub(hub, tmp_path / "cache", monkeypatch)
        yield hub


def write_weights(path: Path) -> None:
    """A file as safetensors writes it, of so many zeros."""
    header = json.dumps(
        {"a": {"dtype": "U8", "shape": [WEIGHTS], "data_offsets": [0, WEIGHTS]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(WEIGHTS))


def test_bytes_are_told_while_they_come_and_only_what_is_needed_comes(hub: ScriptedHub) -> None:
    told: list[tuple[int, int]] = []
    hub.gate.clear()

    def follow(done: int, total: int) -> None:
        told.append((done, total))
        if total and done > total // 3:
            hub.gate.set()

    folder = find_checkpoint("someone/model", follow=follow)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sizes["model.safetensors"] > WEIGHTS and "pytorch_model.bin" not in sizes
    total = sum(sizes.values())
    assert told[-1] == (total, total) and told == sorted(told)
    assert any(0 < done < total for done, _ in told)
    assert {whole for _, whole in told} <= {0, total}


def test_the_revision_and_the_token_of_the_environment_reach_the_hub(
    hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    find_checkpoint("someone/model", only_facts=True)
    assert "Bearer hf_secret" not in hub.tokens
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.asked.clear()
    find_checkpoint("someone/model", revision="v1.2", only_facts=True)
    assert "Bearer hf_secret" in hub.tokens
    assert any("/revision/v1.2" in asked for asked in hub.asked)


def test_what_is_here_is_not_told_again(hub: ScriptedHub) -> None:
    told: list[tuple[int, int]] = []
    first = find_checkpoint("someone/model", follow=lambda done, total: None)
    asked = len(hub.asked)
    assert find_checkpoint("someone/model", follow=lambda *now: told.append(now)) == first
    assert set(told) == {(0, 0)}
    assert not any("/resolve/" in question for question in hub.asked[asked:])


def test_what_was_fetched_counts_as_here_and_half_of_it_does_not(
    hub: ScriptedHub, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not is_here("someone/model")
    find_checkpoint("someone/model", only_facts=True)
    assert not is_here("someone/model")
    find_checkpoint("someone/model")
    assert is_here("someone/model")
    assert "Fetching" not in "".join(capfd.readouterr())


def test_whoever_follows_may_leave_and_the_client_ends_soon_after(hub: ScriptedHub) -> None:
    class Enough(Exception):
        pass

    def follow(done: int, total: int) -> None:
        if done:
            raise Enough

    hub.gate.clear()
    before = set(threading.enumerate())
    with pytest.raises(Enough):
        find_checkpoint("someone/model", follow=follow)
    left = set(threading.enumerate()) - before
    assert left  # the client stands in the middle of a file and is not waited for
    hub.gate.set()
    wait_until(lambda: not any(thread.is_alive() for thread in left))
    cached = Path(constants.HF_HUB_CACHE).rglob("model.safetensors")
    assert not list(cached)


def test_the_client_is_left_while_it_hangs_before_anything_is_known(hub: ScriptedHub) -> None:
    hangs = threading.Event()

    def download(**choices: Any) -> str:
        hangs.wait(WAIT_S)
        return ""

    def follow(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(download, follow)
    hangs.set()


def test_what_the_hub_refuses_comes_as_it_does_without_a_follower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, dry_run: bool = False, **__: Any) -> str:
        if dry_run:
            raise DryRunError("no hub")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(BadCheckpoint, match="No space left"):
        find_checkpoint("2B", follow=lambda done, total: None)


def test_a_repository_without_safetensors_says_what_it_has_instead(hub: ScriptedHub) -> None:
    del hub.files["model.safetensors"]
    pickled = r"^someone/model holds only weights that run code when opened \(pytorch_model\.bin\)"
    with pytest.raises(BadCheckpoint, match=pickled):
        find_checkpoint("someone/model")
    del hub.files["pytorch_model.bin"]
    with pytest.raises(BadCheckpoint, match="^someone/model holds no weights"):
        find_checkpoint("someone/model")


def test_another_family_of_the_hub_is_named_by_its_repository(hub: ScriptedHub) -> None:
    hub.files["config.json"] = json.dumps({"model_type": "qwen2_vl"}).encode()
    folder = find_checkpoint("someone/model", only_facts=True)
    with pytest.raises(BadCheckpoint, match="^someone/model holds a model of type 'qwen2_vl'"):
        read_facts(folder)


def test_bars_of_files_are_not_bytes_and_the_one_ahead_counts() -> None:
    tally = Tally()
    tally.total = 100
    files, received, written = (tally.make_bar(unit=unit) for unit in ("it", "B", "B"))
    files.update(7)
    assert tally.done == 0
    received.update(30)
    written.update(20)
    assert tally.done == 30
    written.update(90)
    assert tally.done == 100  # the client may count a part twice when it tries again


def test_sizes_that_are_not_known_count_nothing() -> None:
    files = [
        SimpleNamespace(file_size=size, will_download=comes)
        for size, comes in ((5, True), (None, True), (7, False))
    ]
    told: list[int] = []

    def download(dry_run: bool = False, **_: Any) -> Any:
        if not dry_run:
            wait_until(lambda: told and told[-1])
        return files if dry_run else "folder"

    assert fetch(download, lambda done, total: told.append(total)).result() == "folder"
    assert told[-1] == 5
