"""Whether a checkpoint could be had: whole on this machine already, or from the hub right now.

Fetches nothing. The hub's client reads HF_TOKEN, HF_HOME and HF_HUB_OFFLINE itself.
"""

import shutil
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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        kept = snapshot_download(
            _repository(model), allow_patterns=[*ALL_FILES], local_files_only=True
        )
        check_weights(Path(kept))
    except (BadCheckpoint, LocalEntryNotFoundError):
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
    if repository is None:
        return None
    # Imported here: only engines elsewhere name what may or may not be here.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        kept = snapshot_download(repository, allow_patterns=[*SMALL_FILES], local_files_only=True)
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return Path(kept) if (Path(kept) / "config.json").is_file() else None
