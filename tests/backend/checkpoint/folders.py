"""Folders of checkpoints that tests read: upstream's layout, ours, and one with odd tokens."""

import json
import shutil
from pathlib import Path

from backend.checkpoint.find import BUNDLED_FOLDER

GOLDEN = Path(__file__).parents[2] / "golden"
ORIGINAL = GOLDEN / "original" / "layernorm-448"
ORIGINALS = [ORIGINAL, GOLDEN / "original" / "qknorm-112", GOLDEN / "original" / "internlm2-112"]
FOLDERS = [*ORIGINALS, BUNDLED_FOLDER]

ODD_TOKENS = {"<tool_call>": False, "</tool_call>": False, "<video>": True}


def copy_small_files(source: Path, folder: Path) -> Path:
    """A copy to be changed, without the weights."""
    return Path(shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors")))


def change_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def with_odd_tokens(folder: Path) -> Path:
    """An original whose tokenizer has what real ones have: tokens that are not special, as Qwen's
    <tool_call>, and one beyond the embedding, as the <video> of the -hf repositories."""
    copy_small_files(ORIGINAL, folder)
    path = folder / "tokenizer_config.json"
    tokens = json.loads(path.read_text("utf-8"))["added_tokens_decoder"]
    for number, (content, special) in enumerate(ODD_TOKENS.items(), start=len(tokens) + 500):
        tokens[str(number)] = tokens["500"] | {"content": content, "special": special}
    change_json(path, added_tokens_decoder=tokens)
    return folder


def with_word_of_newlines(folder: Path) -> Path:
    """An original whose vocabulary has two newlines as one word, as Qwen's has, in the place of
    its last word."""
    copy_small_files(ORIGINAL, folder)
    *merges, last = (folder / "merges.txt").read_text("utf-8").splitlines()
    (folder / "merges.txt").write_text("\n".join([*merges, "Ċ Ċ"]) + "\n", "utf-8")
    vocab = json.loads((folder / "vocab.json").read_text("utf-8"))
    vocab["ĊĊ"] = vocab.pop(last.replace(" ", ""))
    (folder / "vocab.json").write_text(json.dumps(vocab), "utf-8")
    return folder
