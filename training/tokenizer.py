"""The byte-level tokenizer of the bundled checkpoint, in Qwen2's manner, with 1,536 pieces.

The one that ships came with the weights that training started from; `build_tokenizer` makes one
anew from the texts of this package, for a run from scratch with a vocabulary of its own.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<quad>",
    "</quad>",
    "<ref>",
    "</ref>",
    "<box>",
    "</box>",
)
VOCABULARY = 1536
BUNDLED = Path(__file__).parents[1] / "assets" / "checkpoint"
# The split of Qwen2's tokenizer.json (transformers, models/qwen2/tokenization_qwen2.py).
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Codec:
    """Text to ids, from a folder's tokenizer.json. `special` holds the ids of the added tokens."""

    def __init__(self, folder: Path = BUNDLED) -> None:
        self.folder = folder
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.special = {name: self._tokenizer.token_to_id(name) for name in SPECIAL}
        self._plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._plain.encode_special_tokens = True
        # What is said often is encoded once.
        self.encode = lru_cache(maxsize=100_000)(self._encode)
        self.encode_words = lru_cache(maxsize=100_000)(self._encode_words)

    def _encode(self, text: str) -> tuple[int, ...]:
        """Ids of what the model says: `<ref>` and the like become special tokens."""
        return tuple(self._tokenizer.encode(text).ids)

    def _encode_words(self, text: str) -> tuple[int, ...]:
        """Ids of what a person types, in which nothing becomes a special token."""
        return tuple(self._plain.encode(text).ids)

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    @property
    def size(self) -> int:
        return self._tokenizer.get_vocab_size()


def build_tokenizer(texts: Iterator[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Byte-pair merges learnt from `texts`; the special tokens take the last ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated", False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    return tokenizer
