"""Finding a checkpoint: what a person calls it becomes a folder with its files.

The hub's client reads HF_TOKEN, HF_HOME and HF_HUB_OFFLINE itself and serves from its cache when
there is no network. Only safetensors are fetched or accepted: nothing else loads without running
code. What the files say is the business of `facts`.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from backend.checkpoint.fetch import Follow, Tally, fetch
from backend.checkpoint.files import broken, called, read_header, read_json
from backend.errors import BadCheckpoint, BadSetting
from backend.settings import BUNDLED

BUNDLED_FOLDER = Path(__file__).parents[2] / "assets" / "checkpoint"
OWNER = "OpenGVLab"
NATIVE_SIZES = ("1B", "2B", "8B", "14B", "38B", "78B")  # those with an official -hf repository
SIZES = ("1B", "2B", "8B", "9B", "14B", "38B", "78B")
VARIANTS = ("Instruct", "Pretrained")  # in the original layout only

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SMALL_FILES = ("*.json", "*.txt", "*.jinja", "tokenizer.model")
ALL_FILES = (*SMALL_FILES, "*.safetensors")
INDEX = "model.safetensors.index.json"


def find_checkpoint(
    model: str,
    revision: str | None = None,
    only_facts: bool = False,
    follow: Follow | None = None,
) -> Path:
    """The folder of a checkpoint, fetched from the hub if it is not here.

    `model` is "bundled", a size such as "2B" or "2B-Instruct", a hub id, or a folder. With
    `only_facts`, configuration and tokenizer are enough and no weights are fetched or checked.
    Raises `BadCheckpoint` with what is wrong and what to do, and `BadSetting` for a revision of
    what is not on the hub. `follow` is told how far the fetching is, and may raise to end it.
    """
    folder = BUNDLED_FOLDER if model == BUNDLED else Path(model).expanduser()
    repository = repository_of(model)
    if repository is None:
        _require_folder(model, folder)
        if revision is not None:
            raise BadSetting(
                f"{folder} is a folder and has no revision {revision!r}.", "Leave --revision out."
            )
    else:
        folder = _fetch(repository, revision, only_facts, follow)
        if not (only_facts or any(folder.glob("*.safetensors"))):
            raise _no_weights(repository, _listed(repository, revision))
    if not only_facts:
        check_weights(folder)
    return folder


def repository_of(model: str) -> str | None:
    """The hub repository that `model` names, `None` when it is a folder or the bundled one."""
    named = {name.lower(): repository for name, repository in _repositories()}
    if model.lower() in named:
        return named[model.lower()]
    if model == BUNDLED or Path(model).expanduser().is_dir() or not HUB_ID.fullmatch(model):
        return None
    return model


def name_of(model: str) -> str:
    """How a person knows the checkpoint: the last part of its repository or folder."""
    if model == BUNDLED:
        return BUNDLED
    repository = repository_of(model)
    return repository.split("/")[-1] if repository else Path(model).expanduser().resolve().name


def check_weights(folder: Path) -> None:
    """Raise `BadCheckpoint` unless every safetensors file that should be in `folder` is whole."""
    files = _shards(folder) or sorted(folder.glob("*.safetensors"))
    if not files:
        raise _no_weights(called(folder), [path.name for path in folder.iterdir()])
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise BadCheckpoint(
            f"{called(folder)} is incomplete: {missing[0]} is missing"
            + (f" and {len(missing) - 1} more of {len(files)}." if len(missing) > 1 else "."),
            "Download the checkpoint again; what is there already is kept.",
        )
    for file in files:
        _check_whole(file)


def _repositories() -> list[tuple[str, str]]:
    """Each short name and its repository."""
    sizes = [
        (size, f"{OWNER}/InternVL3-{size}" + ("-hf" if size in NATIVE_SIZES else ""))
        for size in SIZES
    ]
    variants = [
        (f"{size}-{variant}", f"{OWNER}/InternVL3-{size}-{variant}")
        for size in SIZES
        for variant in VARIANTS
    ]
    return sizes + variants


def _shards(folder: Path) -> list[Path]:
    """The files that the index of split weights names; none when the weights are in one file."""
    try:
        names = set(read_json(folder / INDEX).get("weight_map", {}).values())
        return sorted(folder / name for name in names)
    except (AttributeError, TypeError) as error:
        raise broken(folder / INDEX) from error


def _require_folder(model: str, folder: Path) -> None:
    if not model.strip():
        raise BadCheckpoint("No model is named.", f"Give a size as 2B, a folder, or {BUNDLED}.")
    if folder.is_dir():
        if any(folder.iterdir()):
            return
        raise BadCheckpoint(f"The folder {folder} is empty.", "Download a checkpoint into it.")
    if folder.exists():
        raise BadCheckpoint(f"{folder} is a file.", "Give the folder that it is in.")
    if "/" in model or "\\" in model:
        raise BadCheckpoint(f"There is no folder {folder}.", "Correct the path.")
    raise BadCheckpoint(
        f"There is no checkpoint called {model!r}.",
        f"Choose {BUNDLED}, {', '.join(SIZES)} (each also as SIZE-{' or SIZE-'.join(VARIANTS)}), "
        "a hub id as OpenGVLab/InternVL3-2B-hf, or a folder.",
    )


def _fetch(repository: str, revision: str | None, only_facts: bool, follow: Follow | None) -> Path:
    # Imported here: the page of the bundled checkpoint starts without the hub's client.
    from huggingface_hub import errors, snapshot_download

    patterns = [*(SMALL_FILES if only_facts else ALL_FILES)]
    download = partial(snapshot_download, repository, revision=revision, allow_patterns=patterns)
    followed = fetch(download, follow) if follow else None
    try:
        return Path(followed.result() if followed else download(tqdm_class=Tally().make_bar))
    except errors.GatedRepoError as error:
        raise BadCheckpoint(
            f"{repository} is gated: its owner wants to know who downloads it.",
            f"Accept its terms on https://huggingface.co/{repository} and set HF_TOKEN.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise BadCheckpoint(
            f"{repository} is not on the hub, or it is private.",
            "Correct the name, or set HF_TOKEN to a token that may read it.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise BadCheckpoint(
            f"{repository} has no revision {revision!r}.", "Name a branch, a tag or a commit of it."
        ) from error
    except errors.LocalEntryNotFoundError as error:  # not in the cache either
        raise BadCheckpoint(
            f"{repository} is not on this machine and the hub cannot be reached "
            f"({_first_line(error)}).",
            f"Connect to the network, give a folder, or use the bundled checkpoint "
            f"(--model {BUNDLED}).",
        ) from error
    except Exception as error:  # the client lets its network library's own errors through
        raise BadCheckpoint(
            f"Fetching {repository} failed ({_first_line(error)}).",
            "Try again: what was fetched is kept. Or give a folder.",
        ) from error


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def _listed(repository: str, revision: str | None) -> list[str]:
    """Names of the files in a repository; none where the hub cannot be asked."""
    from huggingface_hub import HfApi

    try:
        return HfApi().list_repo_files(repository, revision=revision)
    except Exception:  # the client lets its network library's own errors through
        return []


def _no_weights(name: str, files: Sequence[str]) -> BadCheckpoint:
    pickled = sorted(file for file in files if file.endswith((".bin", ".pt", ".pth")))
    if pickled:
        return BadCheckpoint(
            f"{name} holds only weights that run code when opened ({pickled[0]}).",
            "Use a checkpoint in safetensors, as OpenGVLab/InternVL3-2B-hf.",
        )
    return BadCheckpoint(
        f"{name} holds no weights (*.safetensors).",
        "Download the checkpoint again, or give another.",
    )


def _check_whole(file: Path) -> None:
    """Compare a file's size with what its own header promises; the numbers are not read."""
    size = file.stat().st_size
    try:
        promised = read_header(file).file_bytes
    except ValueError as error:
        raise BadCheckpoint(
            f"{file} is not a file of weights (an unfinished download, or git without LFS).",
            "Delete it and download the checkpoint again.",
        ) from error
    if size != promised:
        raise BadCheckpoint(
            f"{file} is incomplete: {size:,} of {promised:,} bytes are there.",
            "Delete it and download the checkpoint again; the other files are kept.",
        )
