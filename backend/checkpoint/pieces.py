"""SentencePiece tokenizers, those of InternLM: InternVL3 9B and the InternLM2 sizes of InternVL2.5.

Text is encoded by the `sentencepiece` library itself, which upstream's slow tokenizers call for
every stretch between added tokens (tokenization_internlm2.py of OpenGVLab/InternVL @2410d1d;
tokenization_internlm3.py of transformers @40ab0f5). Text is decoded piece by piece, as it
streams. Two things of upstream's are left out: InternLM2's tokenizer takes spaces from the decoded
text (" ." becomes "."), which spoils code, and InternLM3's writes U+2581 for spaces at the very
beginning if what is left of their token is no token.

A model file may hold a sign as a piece that text can spell, as InternLM2's `[UNUSED_TOKEN_145]`,
which is `<|im_end|>`. Such pieces are made control pieces before the library reads them.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from backend.checkpoint.files import broken, read_json
from backend.checkpoint.tokens import Added, ByteReader, Tokens, mend
from backend.errors import BadCheckpoint

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

FILE = "tokenizer.model"
SPACE = "\u2581"
MANY = 9  # spaces; more than any tokenizer puts before a text
UNHEARD = "\U0010fffd"  # a character of no vocabulary
STRIPPING = "InternLM3Tokenizer"  # takes a space from the first token itself
READ = ("InternLM2Tokenizer", STRIPPING)
PIECE = 0x0A  # ModelProto.pieces of sentencepiece_model.proto: field 1, a message
AS_CONTROL = b"\x18\x03"  # SentencePiece.type = CONTROL; of a field given twice the last one counts


class Pieces(Tokens):
    """A tokenizer that `sentencepiece` encodes for; it must know no sign that text can spell."""

    cuts_words = False
    errors = "surrogateescape"  # so that each byte becomes one U+FFFD, as in the library

    def __init__(
        self,
        model: "SentencePieceProcessor",
        added: Mapping[str, Added],
        opening: tuple[str, ...],
        leading_spaces: int,
    ) -> None:
        super().__init__(added)
        self.opening = opening
        self.leading_spaces = leading_spaces
        self._model = model
        self._contents = {number: content.encode() for content, number in self.added.items()}
        self._silent = frozenset(self.added[sign] for sign in self.signs)
        self._spelt = cache(self._spell)  # of an answer that is decoded at every pause

    def encode_plain(self, text: str) -> list[int]:
        """Ids of `text` read as nothing but text: never the id of an added token."""
        return list(self._model.encode(mend(text)))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without the special tokens, as `model.chat` of the card returns it."""
        reader = ByteReader(self)
        kept = (number for number in ids if number not in self._silent)
        return reader.feed(b"".join(map(self.spell, kept))) + reader.end()

    def spell(self, token_id: int) -> bytes:
        """What a token stands for in the midst of a text; nothing if there is no such id."""
        return self._spelt(token_id)

    def _spell(self, token_id: int) -> bytes:
        if token_id in self._contents:
            return self._contents[token_id]
        if not 0 <= token_id < self._model.piece_size() or self._model.is_control(token_id):
            return b""
        piece = self._model.id_to_piece(token_id)
        if self._model.is_byte(token_id):
            return bytes([int(piece[1:-1], 16)])  # <0xE0>
        return piece.replace(SPACE, " ").encode()


def is_sentencepiece(folder: Path) -> bool:
    """Whether the tokenizer in `folder` is one of these."""
    return (folder / FILE).is_file()


def read_pieces(folder: Path, added: Mapping[str, Added]) -> Tokens:
    """The tokenizer whose tokenizer.model is in `folder`; `added` is what its other files name.

    Raises `BadCheckpoint` when it cannot be read, or when `sentencepiece` is not installed.
    """
    config = read_json(folder / "tokenizer_config.json")
    kind = config.get("tokenizer_class") or READ[0]
    if kind not in READ:
        raise BadCheckpoint(
            f"The tokenizer in {folder} is a {kind}, which is not read.",
            "Give an InternVL3 or InternVL2.5 checkpoint.",
        )
    model = _open(_read(folder), folder)
    added = {**_signs_of(model), **added}
    _require_agreement(model, added, folder)
    model = _silence(model, {token.id for token in added.values()}, folder)
    _require_plain(model, added, folder)
    begins = config.get("add_bos_token", True) and model.bos_id() >= 0
    opening = (model.id_to_piece(model.bos_id()),) if begins else ()
    spaces = MANY - len(model.decode([SPACE] * MANY))
    if kind == STRIPPING and config.get("add_prefix_space", True):
        spaces += 1
    return Pieces(model, added, opening, spaces)


def mark_control(content: bytes, numbers: AbstractSet[int]) -> bytes:
    """A model file's content with the pieces of these numbers made control pieces."""
    parts, done = [], 0
    for number, (start, body, end) in enumerate(_find_pieces(content)):
        if number in numbers:
            piece = content[body:end] + AS_CONTROL
            parts += [content[done:start], bytes([PIECE]), _write_varint(len(piece)), piece]
            done = end
    return b"".join((*parts, content[done:]))


def _read(folder: Path) -> bytes:
    try:
        content = (folder / FILE).read_bytes()
    except OSError as error:
        raise broken(folder / FILE) from error
    if not content:  # the library would take this for a model yet to come
        raise broken(folder / FILE)
    return content


def _open(content: bytes, folder: Path) -> "SentencePieceProcessor":
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise BadCheckpoint(
            f"The tokenizer in {folder} needs the package sentencepiece, which is not installed.",
            "Install it (pip install sentencepiece), or choose another size.",
        ) from error
    try:
        return SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise broken(folder / FILE) from error


def _signs_of(model: "SentencePieceProcessor") -> dict[str, Added]:
    """The signs that the model file itself has: `<unk>`, `<s>`, `</s>`."""
    numbers = (model.unk_id(), model.bos_id(), model.eos_id(), model.pad_id())
    return {model.id_to_piece(number): Added(number, True) for number in numbers if number >= 0}


def _silence(
    model: "SentencePieceProcessor", numbers: AbstractSet[int], folder: Path
) -> "SentencePieceProcessor":
    """`model`, or one like it whose pieces of these numbers no text can spell."""
    spelt = {
        number
        for number in numbers
        if number < model.piece_size()
        and not (model.is_control(number) or model.is_unknown(number))
    }
    if not spelt:
        return model
    return _open(mark_control(model.serialized_model_proto(), spelt), folder)


def _require_agreement(
    model: "SentencePieceProcessor", added: Mapping[str, Added], folder: Path
) -> None:
    """Raise `BadCheckpoint` if a sign stands in the model file under another id."""
    for content, token in added.items():
        if model.piece_to_id(content) not in (model.unk_id(), token.id):
            raise BadCheckpoint(
                f"The files of the tokenizer in {folder} disagree on the id of {content}.",
                "Download the checkpoint again.",
            )


def _require_plain(
    model: "SentencePieceProcessor", added: Mapping[str, Added], folder: Path
) -> None:
    """Raise `BadCheckpoint` if text can spell a sign, be it `<unk>` for want of bytes."""
    signs = {token.id for token in added.values()}
    for text in (*added, UNHEARD):
        if not signs.isdisjoint(model.encode(text)):
            raise BadCheckpoint(
                f"In the tokenizer in {folder}, plain text can spell a sign ({text!r}).",
                "Give an InternVL3 or InternVL2.5 checkpoint.",
            )


def _find_pieces(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each piece of a model file begins, where its fields do, and where it ends."""
    end = 0
    while end < len(content) and content[end] == PIECE:
        start = end
        length, body = _read_varint(content, start + 1)
        end = body + length
        yield start, body, end


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    """A number as protobuf writes it, seven bits a byte, and where it ends."""
    value = shift = 0
    while content[at] >= 0x80:
        value |= (content[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | content[at] << shift, at + 1


def _write_varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
