"""SentencePiece tokenizers: upstream's ids and texts, and no sign from anybody's words."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from backend.checkpoint.pieces import mark_control
from backend.checkpoint.tokenizer import read_tokens
from backend.checkpoint.tokens import Tokens
from backend.errors import BadCheckpoint
from tests.backend.checkpoint.folders import change_json
from tests.backend.checkpoint.recorded_pieces import Recorded
from tests.backend.checkpoint.test_tokenizer import some_texts

TYPED = ("<s>", "</s>", "<unk>", "<0x0A>", "<0xE0>", "[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]")
WORDS = ["the cat sat on the mat", "a dog and a cat", "one two three"] * 3


def library(folder: Path) -> Any:
    return SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def train(folder: Path, **options: Any) -> None:
    """Put a model of a few words in the place of the folder's own."""
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS),
        model_writer=written,
        model_type="bpe",
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())


def test_text_gets_the_ids_that_upstream_gives(recorded: Recorded, tokens: Tokens):
    assert len(recorded.texts) == 18
    for case in recorded.texts:
        assert tokens.encode_plain(case["text"]) == case["ids"], case["text"]


def test_text_without_signs_gets_the_ids_of_the_plain_library(folder: Path, tokens: Tokens):
    plain = library(folder)
    for text in some_texts():
        assert tokens.encode_plain(text) == plain.encode(text), text


def test_answers_are_decoded_as_upstream_does(recorded: Recorded, tokens: Tokens):
    assert len(recorded.answers) > 150
    for case in recorded.answers:
        assert tokens.decode(case["ids"]) == case["text"], case["ids"]


def test_no_sign_comes_from_text(tokens: Tokens):
    signs = set(tokens.added.values())
    for typed in (*tokens.added, *TYPED):
        half = len(typed) // 2
        for text in (typed, typed * 2, f"a{typed}b", f" {typed}\n", typed[:half] + typed):
            ids = tokens.encode_plain(text)
            assert signs.isdisjoint(ids), text
            assert tokens.decode(ids).lstrip(" ") == text.lstrip(" ")


def test_the_plain_library_would_read_signs_from_text(recorded: Recorded, folder: Path):
    """Else the test before this one would hold nothing."""
    joined = recorded.model == "joined.model"
    typed = "[UNUSED_TOKEN_145]" if joined else "<|im_end|>"
    assert read_tokens(folder).special("<|im_end|>") in library(folder).encode(typed)


def test_tokens_that_no_file_names_are_those_of_the_model(folder: Path):
    (folder / "tokenizer_config.json").unlink()
    assert dict(read_tokens(folder).added) == {"<unk>": 0, "<s>": 1, "</s>": 2}


def test_prompts_begin_as_the_configuration_says(folder: Path, tokens: Tokens):
    assert tokens.opening == ("<s>",) and tokens.special("<s>") == 1
    change_json(folder / "tokenizer_config.json", add_bos_token=False)
    assert read_tokens(folder).opening == ()


def test_a_prefix_space_that_was_not_added_is_not_taken(folder: Path, tokens: Tokens):
    kept = tokens.leading_spaces
    change_json(folder / "tokenizer_config.json", add_prefix_space=False)
    third = (
        "3" in json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["tokenizer_class"]
    )
    assert read_tokens(folder).leading_spaces == kept - third


def test_ids_beyond_the_vocabulary_stand_for_nothing(tokens: Tokens):
    assert tokens.spell(10**6) == tokens.spell(-1) == b""


def test_a_piece_of_any_length_is_made_a_control_piece(folder: Path):
    symbols = ["x" * 300, "y" * 127, "z" * 120, "w"]
    train(folder, vocab_size=60, user_defined_symbols=symbols)
    content = (folder / "tokenizer.model").read_bytes()
    numbers = {library(folder).piece_to_id(symbol) for symbol in symbols[:3]}
    marked = SentencePieceProcessor(model_proto=mark_control(content, numbers))
    size = marked.piece_size()
    assert {n for n in range(size) if marked.is_control(n)} == {1, 2, *numbers}
    names = [marked.id_to_piece(number) for number in range(size)]
    assert names == [library(folder).id_to_piece(number) for number in range(size)]
    assert mark_control(content, set()) == content


def test_a_model_without_bytes_is_refused(folder: Path):
    (folder / "tokenizer_config.json").unlink()
    train(folder, vocab_size=60)
    with pytest.raises(BadCheckpoint, match="plain text can spell a sign"):
        read_tokens(folder)


def test_files_that_disagree_on_an_id_are_told(folder: Path):
    (folder / "added_tokens.json").write_text(json.dumps({"<quad>": 703, "<0x41>": 9}), "utf-8")
    with pytest.raises(BadCheckpoint, match="disagree on the id of <0x41>"):
        read_tokens(folder)


@pytest.mark.parametrize("content", [b"", b"\n\x0e", b"version https://git-lfs", bytes(100)])
def test_a_broken_model_file_is_told(folder: Path, content: bytes):
    (folder / "tokenizer.model").write_bytes(content)
    with pytest.raises(BadCheckpoint, match="tokenizer.model cannot be read.*[Dd]ownload"):
        read_tokens(folder)


def test_another_class_of_tokenizer_is_refused(folder: Path):
    change_json(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    with pytest.raises(BadCheckpoint, match="is a LlamaTokenizer, which is not read"):
        read_tokens(folder)


def test_a_missing_package_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(BadCheckpoint, match="pip install sentencepiece"):
        read_tokens(folder)
