"""Whether a checkpoint could be had: whole on this machine already, or from the hub right now.

Fetches nothing. The hub's client reads HF_TOKEN, HF_HOME and HF_HUB_OFFLINE itself.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from backend.checkpoint.find import (
    ALL_FILES,
    BUNDLED_FOLDER,
    SMALL_FILES,
    check_weights,
    repository_of,
)
from backend.errors import BadCheckpoint
from backend.settings import BUNDLED

PATIENCE_S = 5.0


def is_here(model: str) -> bool:
    """Whether the hub's cache on this machine holds all of a repository's weights."""
    kept = _kept(_repository(model), ALL_FILES)
    if kept is None:
        return False
    try:
        check_weights(kept)
    except (BadCheckpoint, OSError):
        return False
    return True


def can_be_fetched(model: str, size_bytes: int) -> bool:
    """Whether the hub answers for a repository and its cache has room for so many bytes."""
    from huggingface_hub import HfApi

    if free_in_cache() < size_bytes:
        return False
    try:
        HfApi().model_info(_repository(model), timeout=PATIENCE_S)
    except Exception:  # the client lets its network library's own errors through
        return False
    return True


def free_in_cache() -> int:
    """Bytes free where the hub's client keeps what it fetches."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE)
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(there).free


def _repository(model: str) -> str:
    repository = repository_of(model)
    if repository is None:
        raise ValueError(f"{model} is not on the hub")
    return repository


def find_facts_here(model: str) -> Path | None:
    """The folder with the small files of `model`, if they are on this machine; fetches nothing."""
    folder = BUNDLED_FOLDER if model == BUNDLED else Path(model).expanduser()
    if (folder / "config.json").is_file():
        return folder
    repository = repository_of(model)
    kept = None if repository is None else _kept(repository, SMALL_FILES)
    return kept if kept is not None and (kept / "config.json").is_file() else None


def _kept(repository: str, patterns: Sequence[str]) -> Path | None:
    """What the hub's cache on this machine holds of a repository; fetches nothing."""
    from huggingface_hub import snapshot_download

    try:
        kept = snapshot_download(repository, allow_patterns=[*patterns], local_files_only=True)
    except (OSError, ValueError):  # not there, not to be read, or no name of a repository
        return None
    return Path(kept)
