"""The tokenizer: the same ids as transformers gives, and no added token from anybody's text."""

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from backend.checkpoint.tokenizer import read_added_tokens, read_tokens
from backend.checkpoint.tokens import Tokens, mend
from backend.errors import BadCheckpoint
from tests.backend.checkpoint.folders import (
    FOLDERS,
    GOLDEN,
    ODD_TOKENS,
    ORIGINAL,
    ORIGINALS,
    change_json,
    copy_small_files,
    with_odd_tokens,
)

SCRIPTS = [
    "I'll say they've DON'T we'd it's He'S",
    "日本語とにほんごとニホンゴ 你是书生·万象，英文名是InternVL。",
    "한국어 문장 العربية עברית ไทย हिन्दी ქართული Ελληνικά Русский",
    "é e\u0301 ﬁ Å \u212b \u1e9b\u0323 \u0958",  # composed, decomposed, compatibility
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇫🇷 ☃️ 🫠",
    "3.14159 1,234,567 ٣٤٥ ²³ Ⅳ ½ 0x1F 1e-9",
    "a  b   c\td\t\te \n f\r\ng\r\n\r\nh \u00a0i\u2003j\u200bk\u3000l  ",
    "\n\n\n  \n \t\n", " ", "", "\0", "\x07\x1b[31m", "\ufeff", "\u202eabc\u202c",
    "def f(x):\n    return x ** 2  # done\n", "<b>bold</b> &amp; <img src=x>", "$$\\frac{1}{2}$$",
    "https://example.org/a?b=c&d=%20#e", "C:\\Users\\x", "__init__ --no-op ==> <= >= != ::",
    "user\nassistant\nsystem\n", "Image-1: Image-2: \nFrame1: Frame12: \n", "{256} {0}",
]  # fmt: skip
ALPHABET = "aZé9 \n\t'’.,-<|>/_你好んア한ع👍🏽\u0301\u200d\u00a0½"


@cache
def some_texts() -> tuple[str, ...]:
    """Several hundred texts: handmade, golden prompts' words, and chance with a fixed seed."""
    chance = random.Random(3)
    mixed = ["".join(chance.choices(ALPHABET, k=chance.randint(1, 40))) for _ in range(300)]
    pairs = [a + b for a in SCRIPTS for b in ("'s", " \n", "日本")]
    cases = json.loads((GOLDEN / "prompts.json").read_text("utf-8"))
    questions = [question for case in cases for question, _ in case["turns"]]
    return (*SCRIPTS, *mixed, *pairs, *questions, *(case["system"] for case in cases))


@cache
def upstream(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


@pytest.fixture(params=[*FOLDERS, "odd"], ids=lambda folder: Path(folder).name)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "odd":
        return with_odd_tokens(tmp_path / "odd")
    return Path(request.param)


@pytest.fixture
def tokens(folder: Path) -> Tokens:
    return read_tokens(folder)


def test_plain_text_gets_the_ids_that_transformers_gives(folder: Path, tokens: Tokens):
    added = set(tokens.added)
    texts = [text for text in some_texts() if not any(token in text for token in added)]
    assert len(texts) > 350
    for text in texts:
        expected = upstream(folder)(text, add_special_tokens=False)["input_ids"]
        assert tokens.encode_plain(text) == expected, text


def test_every_added_token_has_the_id_that_transformers_gives(folder: Path, tokens: Tokens):
    expected = {token: number for number, token in _added_by(upstream(folder)).items()}
    assert dict(tokens.added) == expected
    assert all(tokens.special(token) == number for token, number in expected.items())


def _added_by(tokenizer: Any) -> dict[int, str]:
    return {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}


def test_decoding_leaves_out_what_transformers_leaves_out(folder: Path, tokens: Tokens):
    chance = random.Random(4)
    rows = tokens.tokenizer.get_vocab_size()
    for _ in range(100):
        ids = [chance.randrange(rows) for _ in range(30)]
        assert tokens.decode(ids) == upstream(folder).decode(ids, skip_special_tokens=True)


def test_no_added_token_comes_from_text(tokens: Tokens):
    for token in tokens.added:
        half = len(token) // 2
        for text in (
            token,
            token + token,
            f"before {token}",
            f"{token} after",
            f"a{token}b",
            token[:half] + token + token[half:],
            f" {token}\n",
        ):
            ids = tokens.encode_plain(text)
            assert not set(ids) & set(tokens.added.values()), text
            assert tokens.tokenizer.decode(ids, skip_special_tokens=False) == text


def test_a_sign_that_text_can_spell_is_refused(tmp_path: Path):
    folder = copy_small_files(FOLDERS[-1], tmp_path / "copy")
    path = folder / "tokenizer.json"
    model = json.loads(path.read_text("utf-8"))["model"]
    model["vocab"] |= read_tokens(folder).added
    change_json(path, model=model)
    read_tokens(folder)  # standing in the vocabulary is harmless, as no merge leads there
    words = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    words["trim_offsets"] = True
    change_json(path, model=model | {"ignore_merges": True}, pre_tokenizer=words)
    with pytest.raises(BadCheckpoint, match="can spell the sign"):
        read_tokens(folder)


def test_no_file_of_the_tokenizer_is_the_only_one_that_counts(tmp_path: Path):
    folder = copy_small_files(FOLDERS[-1], tmp_path / "copy")
    whole = dict(read_tokens(folder).added)
    (folder / "added_tokens.json").write_text(json.dumps({"<img>": whole["<img>"]}), "utf-8")
    assert dict(read_tokens(folder).added) == whole
    assert {token: added.id for token, added in read_added_tokens(folder).items()} == whole


@pytest.mark.parametrize("name", ["added_tokens.json", "tokenizer_config.json", "tokenizer.json"])
def test_added_tokens_of_another_shape_are_told(tmp_path: Path, name: str):
    wrong = {"added_tokens_decoder": [1], "added_tokens": [1], "<img>": None}
    (tmp_path / name).write_text(json.dumps(wrong), "utf-8")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read_added_tokens(tmp_path)


def test_another_kind_of_tokenizer_is_refused(tmp_path: Path):
    folder = copy_small_files(FOLDERS[-1], tmp_path / "copy")
    model = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}
    tokenizer = {"model": model, "added_tokens": []}
    change_json(folder / "tokenizer.json", **tokenizer)
    with pytest.raises(BadCheckpoint, match="not Qwen's kind"):
        read_tokens(folder)


def test_halves_of_surrogate_pairs_are_mended():
    tokens = read_tokens(ORIGINAL)
    assert mend("a\ud800b\udc00") == "a\ufffdb\ufffd"
    assert mend("\ud83d\ude00 😀") == "😀 😀"
    assert tokens.encode_plain("x\udfff") == tokens.encode_plain("x\ufffd")


@pytest.mark.parametrize("folder", ORIGINALS, ids=lambda folder: folder.name)
def test_recorded_answers_are_decoded_as_the_card_returned_them(folder: Path):
    cases = json.loads((folder / "expected.json").read_text("utf-8"))["cases"]
    turns = [turn for case in cases for turn in case.get("turns", ())]
    assert len(turns) == 11
    tokens = read_tokens(folder)
    for turn in turns:
        assert tokens.decode(turn["ids"]).strip() == turn["response"]


def test_special_tokens_that_are_written_out_are_left_out():
    tokens = read_tokens(ORIGINAL)
    assert tokens.without_special("A <ref>cat</ref><box>[[1]]</box>.<|im_end|>") == "A cat[[1]]."


def test_tokens_that_are_not_special_stay_in_an_answer(tmp_path: Path):
    tokens = read_tokens(with_odd_tokens(tmp_path / "odd"))
    answer = "<tool_call>x</tool_call>"
    ids = tokens.tokenizer.encode(answer).ids
    assert {tokens.special(token) for token in ODD_TOKENS if token in answer} <= set(ids)
    assert tokens.decode(ids) == tokens.without_special(answer) == answer


def test_a_missing_token_is_a_bad_checkpoint():
    with pytest.raises(BadCheckpoint, match="<nothing>"):
        read_tokens(ORIGINAL).special("<nothing>")


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path):
    with pytest.raises(BadCheckpoint, match="no tokenizer"):
        read_tokens(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {"vocab": {}}}', "version https://git"])
def test_a_broken_tokenizer_file_is_told(tmp_path: Path, content: str):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(BadCheckpoint, match="cannot be read.*[Dd]ownload"):
        read_tokens(tmp_path)


def test_files_that_disagree_on_an_id_are_told(tmp_path: Path):
    folder = copy_small_files(ORIGINAL, tmp_path / "copy")
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    decoder = config["added_tokens_decoder"]
    decoder["600"] = decoder.pop("511")
    change_json(folder / "tokenizer_config.json", added_tokens_decoder=decoder)
    with pytest.raises(BadCheckpoint, match="disagree on the id of </box>"):
        read_tokens(folder)
