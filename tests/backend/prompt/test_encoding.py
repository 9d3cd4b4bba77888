"""Long texts are encoded in stretches, each once, to the very ids of the whole."""

import random
from pathlib import Path

import pytest

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.checkpoint.tokenizer import ByteLevel, read_tokens
from backend.conversation import Conversation, Turn
from backend.prompt import encoding
from backend.prompt.encoding import Encoder, stretches
from tests.backend.checkpoint.folders import ORIGINAL
from tests.backend.prompt.pictures import composer_of, image

PARTS = (
    *(
        "a",
        "B",
        "word",
        "I'm",
        "we'LL",
        "é",
        "e\u0301",
        "\u0301",
        "中文",
        "ไทย",
        "가",
        "\u1100\u1161",
    ),
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\n\n",
        " \n",
        "\n ",
        "\u3000",
        "\x1c",
        "\x85",
        "\xa0",
        "\u200b",
    ),
    *("1", "23", ".", "...\n", "!?", "_", "-", "'", "🙂", "<|im_end|>", "<img>", "\ufffd", "x\n1"),
)


@pytest.fixture(scope="module", params=[ORIGINAL, BUNDLED_FOLDER], ids=["official", "bundled"])
def tokens(request: pytest.FixtureRequest) -> ByteLevel:
    return read_tokens(request.param)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really encoded since."""
    texts: list[str] = []
    encode = ByteLevel.encode_plain

    def counted(self: ByteLevel, text: str) -> list[int]:
        texts.append(text)
        return encode(self, text)

    monkeypatch.setattr(ByteLevel, "encode_plain", counted)
    return texts


def test_stretches_give_the_ids_of_the_whole_text(
    tokens: ByteLevel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "STRETCH", 3)
    monkeypatch.setattr(encoding, "SHORT", 0)
    chance, cuts = random.Random(4), 0
    for _ in range(300):
        text = "".join(chance.choices(PARTS, k=40))
        cuts += len(list(stretches(text))) - 1
        assert "".join(stretches(text)) == text
        assert Encoder(tokens).encode(text) == tokens.encode_plain(text), repr(text)
    assert cuts > 300


def test_typing_on_encodes_only_the_end(encoded: list[str]) -> None:
    encoder = Encoder(read_tokens(BUNDLED_FOLDER))
    text = "".join(f"Lines of words, the {number}th\n" for number in range(2000))
    encoder.encode(text)
    assert len(encoded) > 5
    encoded.clear()
    encoder.encode(text + "and more")
    assert sum(map(len, encoded)) < 2 * encoding.STRETCH


def test_a_long_question_is_encoded_once_however_often_it_is_weighed(encoded: list[str]) -> None:
    composer = composer_of(Path(BUNDLED_FOLDER))
    question = "The quick brown fox jumps. " * 3000
    conversation = Conversation((Turn(question, (image(2),)),))
    assert not composer.measure(conversation).fits  # a remedy is sought as well
    assert composer.measure(conversation) == composer.compose(conversation).budget
    assert sum(map(len, encoded)) < 1.2 * len(question)


def test_what_is_kept_is_bounded(encoded: list[str]) -> None:
    encoder = Encoder(read_tokens(BUNDLED_FOLDER), kept_bytes=1000)
    for _ in range(2):
        encoder.encode("x" * 5000)
    assert len(encoded) == 2
