"""Reading a checkpoint's tokenizer from its files, without transformers, which would bring torch.

Qwen's kind, which nearly every InternVL has, is read here by the `tokenizers` library; InternLM's
is in `pieces`. Nothing here knows what a prompt looks like.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from backend.checkpoint.files import broken, read_json
from backend.checkpoint.pieces import FILE, is_sentencepiece, read_pieces
from backend.checkpoint.tokens import Added, Tokens, mend
from backend.errors import BadCheckpoint

# How Qwen2 cuts text into words: Qwen2Tokenizer of transformers 5.24 (and Qwen's tokenizer.json).
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class ByteLevel(Tokens):
    """Qwen's kind: words cut by a pattern, their bytes spelt by printable characters.

    `tokenizer` knows every token and serves to decode; text is encoded by a second one of the same
    vocabulary that has never heard of the added tokens.
    """

    def __init__(self, tokenizer: Tokenizer, plain: Tokenizer, added: Mapping[str, Added]) -> None:
        super().__init__(added)
        self.tokenizer = tokenizer
        self._plain = plain
        self._alphabet = spell_bytes()

    def encode_plain(self, text: str) -> list[int]:
        """Ids of `text` read as nothing but text: never the id of an added token."""
        return list(self._plain.encode(mend(text), add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without the special tokens, as `model.chat` of the card returns it."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def spell(self, token_id: int) -> bytes:
        """What a token stands for; nothing if there is no such id."""
        piece = self.tokenizer.id_to_token(token_id) or ""
        try:
            return bytes(self._alphabet[character] for character in piece)
        except KeyError:  # an added token is written as it is
            return piece.encode()


def spell_bytes() -> Mapping[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    spelt = {chr(byte): byte for byte in printable}
    return spelt | {chr(0x100 + number): byte for number, byte in enumerate(others)}


def read_tokens(folder: Path) -> Tokens:
    """The tokenizer in `folder`: tokenizer.model, tokenizer.json, or vocab.json with merges.txt.

    Raises `BadCheckpoint` when there is none of them, when they cannot be read, or when they are
    not of a kind that an InternVL since 2.5 has.
    """
    added = _read_small_files(folder)
    if is_sentencepiece(folder):
        return read_pieces(folder, added)
    try:
        tokenizer = _read_whole(folder) or _read_parts(folder)
    except Exception as error:  # the library raises bare Exceptions for files it cannot read
        raise BadCheckpoint(
            f"The tokenizer in {folder} cannot be read ({error}).", "Download the checkpoint again."
        ) from error
    if tokenizer is None:
        raise _no_tokenizer(folder)
    for number, token in tokenizer.get_added_tokens_decoder().items():
        added[token.content] = Added(number, token.special)
    _extend(tokenizer, added, folder)
    plain = _plain_of(tokenizer, folder)
    _require_plain(plain, added, folder)
    return ByteLevel(tokenizer, plain, dict(sorted(added.items(), key=lambda item: item[1].id)))


def read_added_tokens(folder: Path) -> dict[str, Added]:
    """Added tokens that any file of the tokenizer names, read without building it."""
    found = _read_small_files(folder)
    try:
        for token in read_json(folder / "tokenizer.json").get("added_tokens", ()):
            found[token["content"]] = Added(int(token["id"]), bool(token["special"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise broken(folder / "tokenizer.json") from error
    return found


def _read_small_files(folder: Path) -> dict[str, Added]:
    """Added tokens that are named beside tokenizer.json."""
    found: dict[str, Added] = {}
    try:
        for content, number in read_json(folder / "added_tokens.json").items():
            found[content] = Added(int(number), special=True)
        decoder = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder", {})
        for number, token in decoder.items():
            found[token["content"]] = Added(int(number), bool(token.get("special", True)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise broken(folder / "tokenizer_config.json") from error
    return found


def _read_whole(folder: Path) -> Tokenizer | None:
    path = folder / "tokenizer.json"
    return Tokenizer.from_str(path.read_text(encoding="utf-8")) if path.is_file() else None


def _read_parts(folder: Path) -> Tokenizer | None:
    """Qwen2's tokenizer: composed Unicode, cut into words, as bytes."""
    files = folder / "vocab.json", folder / "merges.txt"
    if not all(file.is_file() for file in files):
        return None
    vocab, merges = BPE.read_file(*(str(file) for file in files))
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _extend(tokenizer: Tokenizer, added: Mapping[str, Added], folder: Path) -> None:
    """Make every added token known to `tokenizer`, under its own id."""
    for content, token in sorted(added.items(), key=lambda item: item[1].id):
        if tokenizer.token_to_id(content) is None:
            tokenizer.add_tokens([AddedToken(content, special=token.special, normalized=False)])
        if tokenizer.token_to_id(content) != token.id:
            raise BadCheckpoint(
                f"The files of the tokenizer in {folder} disagree on the id of {content}.",
                "Download the checkpoint again.",
            )


def _plain_of(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """A tokenizer of the same vocabulary, which is shared, that knows no added token."""
    if not isinstance(tokenizer.model, BPE):
        raise BadCheckpoint(
            f"The tokenizer in {folder} is not Qwen's kind (byte-level BPE).",
            "Give an InternVL3 checkpoint.",
        )
    plain = Tokenizer(tokenizer.model)
    plain.normalizer = tokenizer.normalizer
    plain.pre_tokenizer = tokenizer.pre_tokenizer
    return plain


def _require_plain(plain: Tokenizer, added: Mapping[str, Added], folder: Path) -> None:
    """Raise `BadCheckpoint` if an added token is also a word that text can spell."""
    signs = {token.id for token in added.values()}
    for content in added:
        if not signs.isdisjoint(plain.encode(content, add_special_tokens=False).ids):
            raise BadCheckpoint(
                f"In the tokenizer in {folder}, plain text can spell the sign {content}.",
                "Give an InternVL3 checkpoint.",
            )


def _no_tokenizer(folder: Path) -> BadCheckpoint:
    return BadCheckpoint(
        f"{folder} has no tokenizer (tokenizer.json, vocab.json and merges.txt, or {FILE}).",
        "Download the checkpoint again.",
    )
