"""Finding a checkpoint: every name a person may give, and every way in which it may be missing."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import huggingface_hub
import pytest
from huggingface_hub import errors

from backend.checkpoint import find
from backend.checkpoint.files import called
from backend.checkpoint.find import check_weights, find_checkpoint, name_of, repository_of
from backend.errors import BadCheckpoint, BadSetting
from tests.backend.checkpoint.folders import ORIGINAL, copy_small_files


class FakeHub:
    """Stands for `snapshot_download`: remembers what was asked, then answers or raises."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: Exception | None = None
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def download(self, repository: str, **choices: Any) -> str:
        self.asked.append((repository, choices))
        if self.error:
            raise self.error
        return str(self.folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = copy_small_files(ORIGINAL, tmp_path / "weights")
    write_weights(folder / "model.safetensors")
    return folder


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    hub = FakeHub(folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: ["README.md"])
    return hub


def write_weights(path: Path, cut: int = 0) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(8)
    path.write_bytes(content[: len(content) - cut])


def write_index(folder: Path, *shards: str) -> None:
    (folder / "model.safetensors").unlink()
    weight_map = {f"layer.{number}": shard for number, shard in enumerate(shards)}
    (folder / find.INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("1B", "OpenGVLab/InternVL3-1B-hf"),
        ("2b", "OpenGVLab/InternVL3-2B-hf"),
        ("9B", "OpenGVLab/InternVL3-9B"),
        ("78B", "OpenGVLab/InternVL3-78B-hf"),
        ("2B-Instruct", "OpenGVLab/InternVL3-2B-Instruct"),
        ("38B-pretrained", "OpenGVLab/InternVL3-38B-Pretrained"),
        ("someone/Their-InternVL.3", "someone/Their-InternVL.3"),
        ("bundled", None),
        ("./someone/model", None),
        ("/a/b", None),
        ("a/b/c", None),
        ("nonsense", None),
    ],
)
def test_a_name_means_a_repository(name: str, repository: str | None):
    assert repository_of(name) == repository


def test_a_folder_goes_before_a_repository_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "someone" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert repository_of("someone/model") is None


def test_a_person_knows_a_checkpoint_by_its_last_name(folder: Path):
    assert name_of("bundled") == "bundled"
    assert name_of("2B") == "InternVL3-2B-hf"
    assert name_of(f"{folder}/") == "weights"


def test_the_bundled_checkpoint_is_found_and_whole():
    assert find_checkpoint("bundled") == find.BUNDLED_FOLDER


def test_a_folder_is_found(folder: Path):
    assert find_checkpoint(str(folder)) == folder


def test_a_size_is_fetched_without_pickles(hub: FakeHub, folder: Path):
    assert find_checkpoint("2B", revision="v1") == folder
    ((repository, choices),) = hub.asked
    assert repository == "OpenGVLab/InternVL3-2B-hf"
    assert choices["revision"] == "v1"
    assert "*.safetensors" in choices["allow_patterns"]
    assert not any("bin" in pattern or pattern == "*" for pattern in choices["allow_patterns"])


def test_facts_alone_need_no_weights(hub: FakeHub, folder: Path):
    (folder / "model.safetensors").unlink()
    assert find_checkpoint("2B", only_facts=True) == folder
    assert "*.safetensors" not in hub.asked[0][1]["allow_patterns"]
    with pytest.raises(BadCheckpoint, match="OpenGVLab/InternVL3-2B-hf holds no weights"):
        find_checkpoint("2B")


def refusal(error: type[errors.HfHubHTTPError]) -> Exception:
    """An error as the hub's client raises it, whatever its network library is."""
    response = SimpleNamespace(headers={}, request=None)
    return error("the hub says no", response=cast(Any, response))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.LocalEntryNotFoundError("no route"), "cannot be reached.*network.*folder.*bundled"),
        (refusal(errors.RepositoryNotFoundError), "not on the hub.*HF_TOKEN"),
        (refusal(errors.GatedRepoError), "gated.*terms.*HF_TOKEN"),
        (refusal(errors.RevisionNotFoundError), "no revision 'v9'.*branch"),
        (OSError(28, "No space left on device"), "No space left.*Try again"),
        (errors.HTTPError("timed out"), "timed out.*kept"),
        (errors.HFValidationError("Repo id must not …"), "Repo id must not"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_hub_refuses_is_told_with_a_way_out(hub: FakeHub, error: Exception, words: str):
    hub.error = error
    with pytest.raises(BadCheckpoint, match=f"(?s)OpenGVLab/InternVL3-2B-hf.*{words}"):
        find_checkpoint("2B", revision="v9")


def test_an_unknown_name_is_answered_with_all_names():
    with pytest.raises(BadCheckpoint) as error:
        find_checkpoint("3B")
    assert "'3B'" in str(error.value)
    assert all(size in error.value.advice for size in find.SIZES)
    assert "Instruct" in error.value.advice


def test_no_name_is_not_the_folder_at_hand():
    with pytest.raises(BadCheckpoint, match="No model is named"):
        find_checkpoint(" ", only_facts=True)


def test_a_missing_folder_is_told(tmp_path: Path):
    with pytest.raises(BadCheckpoint, match="There is no folder"):
        find_checkpoint(str(tmp_path / "none"))


def test_an_empty_folder_is_told(tmp_path: Path):
    with pytest.raises(BadCheckpoint, match="is empty"):
        find_checkpoint(str(tmp_path))


def test_a_file_in_place_of_a_folder_is_told(folder: Path):
    with pytest.raises(BadCheckpoint, match="is a file"):
        find_checkpoint(str(folder / "config.json"))


def test_pickled_weights_are_refused(folder: Path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadCheckpoint, match=r"run code.*pytorch_model\.bin.*safetensors"):
        find_checkpoint(str(folder))


def test_a_folder_of_the_hubs_cache_goes_by_its_repository(tmp_path: Path, folder: Path):
    kept = tmp_path / "models--someone--their-model" / "snapshots" / "0123"
    shutil.copytree(folder, kept)
    write_index(kept, "one.safetensors")
    with pytest.raises(BadCheckpoint, match="^someone/their-model is incomplete: one.safetensors"):
        check_weights(kept)
    assert called(kept.parent) == str(kept.parent) and called(folder) == str(folder)


def test_split_weights_are_found_whole(folder: Path):
    write_index(folder, "one.safetensors", "two.safetensors")
    write_weights(folder / "one.safetensors")
    write_weights(folder / "two.safetensors")
    assert find_checkpoint(str(folder)) == folder


def test_a_shard_that_is_absent_is_named(folder: Path):
    write_index(folder, "one.safetensors", "two.safetensors", "three.safetensors")
    write_weights(folder / "one.safetensors")
    with pytest.raises(BadCheckpoint, match=r"three\.safetensors is missing and 1 more of 3"):
        find_checkpoint(str(folder))


@pytest.mark.parametrize("weight_map", [[], "x", {"a": 3}, {"a": None, "b": "c"}])
def test_a_broken_index_is_told(folder: Path, weight_map: object):
    (folder / find.INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        check_weights(folder)


@pytest.mark.parametrize("cut", [1, 8])
def test_half_a_file_of_weights_is_told(folder: Path, cut: int):
    write_weights(folder / "model.safetensors", cut)
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors is incomplete.*bytes.*Delete it"):
        find_checkpoint(str(folder))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n"],
    ids=["empty", "one byte", "git-lfs pointer"],
)
def test_a_file_that_is_no_weights_is_told(folder: Path, content: bytes):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(BadCheckpoint, match="not a file of weights"):
        find_checkpoint(str(folder))


def find_offline(hub_home: Path) -> subprocess.CompletedProcess[str]:
    """Ask for 2B in a process that may not use the network, with the hub's real client."""
    program = (
        "from backend.checkpoint.find import find_checkpoint\n"
        "from backend.errors import BadCheckpoint\n"
        "try:\n"
        "    print(find_checkpoint('2B').name)\n"
        "except BadCheckpoint as error:\n"
        "    print(error)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(hub_home)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_the_hubs_cache_serves_without_a_network(tmp_path: Path, folder: Path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "home" / "hub" / "models--OpenGVLab--InternVL3-2B-hf"
    assert "cannot be reached" in find_offline(tmp_path / "home").stdout
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repository / "snapshots" / commit)
    assert find_offline(tmp_path / "home").stdout.strip() == commit


def test_a_folder_has_no_revision() -> None:
    with pytest.raises(BadSetting, match="has no revision 'v1'. Leave --revision out"):
        find_checkpoint("bundled", revision="v1", only_facts=True)
