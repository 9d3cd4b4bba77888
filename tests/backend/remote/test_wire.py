"""What goes to an engine: the local engine's words and pixels, in the engine's own dialect."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.checkpoint.facts import OFFICIAL_SYSTEM_PROMPT, Layout
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import Answer, Attachment, Conversation, Kind, Request, Sampling, Turn
from backend.errors import BadInput, BadSetting
from backend.prompt.compose import Composer, open_composer
from backend.remote.dialects import Software, choose_dialect
from backend.remote.pictures import Picture, Pictures, lay
from backend.remote.preparation import prepare
from backend.remote.signs import Signs
from backend.remote.wire import MOST_PICTURES, Order, read_messages, write_body
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.checkpoint.folders import ORIGINAL
from tests.ui.conftest import write_clip

HF, OLD = Layout.HF, Layout.ORIGINAL
DIALECTS = [(software, layout) for software in Software for layout in Layout]


@pytest.fixture(scope="module")
def composer() -> Composer:
    return open_composer(ORIGINAL, Settings(), "golden")  # tiles of 448 px, 12 of a picture


@pytest.fixture
def files(tmp_path: Path) -> tuple[Attachment, ...]:
    """A wide picture of 2 tiles and a thumbnail, a square one, and a film of 3 frames."""
    random = np.random.default_rng(0)
    for name, size in (("wide.png", (450, 900)), ("square.webp", (300, 300))):
        Image.fromarray(random.integers(0, 255, (*size, 3), np.uint8)).save(tmp_path / name)
    write_clip(tmp_path / "film.mp4")
    return (
        Attachment(str(tmp_path / "wide.png"), Kind.IMAGE, "wide.png"),
        Attachment(str(tmp_path / "square.webp"), Kind.IMAGE, "square.webp"),
        Attachment(str(tmp_path / "film.mp4"), Kind.VIDEO, "film.mp4", frames=3),
    )


def order_of(composer: Composer, conversation: Conversation, **sampling: Any) -> Order:
    stream = AnswerStream(Request(conversation, Sampling(**sampling)))
    signs = Signs(composer.tokens.added)
    return prepare(composer, Pictures(composer.media), signs, stream).order


def body_of(
    composer: Composer,
    conversation: Conversation,
    software: Software = Software.VLLM,
    layout: Layout = HF,
    kept: frozenset[str] = frozenset(),
    **sampling: Any,
) -> dict[str, Any]:
    order = order_of(composer, conversation, **sampling)
    written = write_body(order, choose_dialect(software, layout), "tiny", kept)
    body = json.loads(written)
    assert isinstance(body, dict)
    return body


def words_of(message: dict[str, Any]) -> str:
    """A message's content with pictures as <p>."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] if part["type"] == "text" else "<p>" for part in content)


def pixels_of(part: dict[str, Any]) -> np.ndarray:
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_the_system_prompt_max_tokens_and_streaming_are_always_there(composer: Composer) -> None:
    for software, layout in DIALECTS:
        body = body_of(composer, Conversation((Turn("Hi"),)), software, layout, max_new_tokens=9)
        system, user = body["messages"]
        assert system == {"role": "system", "content": OFFICIAL_SYSTEM_PROMPT}
        assert user == {"role": "user", "content": "Hi"}
        assert body["stream"] is True and body["max_tokens"] == 9 and body["model"] == "tiny"
        assert body["stream_options"] == {"include_usage": True}


def test_words_and_labels_are_those_of_the_local_prompt(
    composer: Composer, files: tuple[Attachment, ...]
) -> None:
    wide, square, film = files
    first = Turn("Compare.", (wide, square), answer=Answer("Done.<|im_end|>"))
    talk = Conversation((first, Turn("And now?", (film,))), system="Be short.")
    for software, layout, after in (
        (Software.LLAMA, OLD, "\n"),
        (Software.TRANSFORMERS, HF, ""),  # its template breaks the line itself
        (Software.VLLM, HF, ""),
        (Software.SGLANG, HF, ""),
    ):
        system, one, answer, two = body_of(composer, talk, software, layout)["messages"]
        assert words_of(system) == "Be short."
        assert words_of(one) == f"Image-1: <p>{after}Image-2: <p>{after}Compare."
        assert answer == {"role": "assistant", "content": "Done."}
        frames = "".join(f"Frame{number}: <p>{after}" for number in (1, 2, 3))
        assert words_of(two) == f"{frames}And now?"


def test_engines_that_want_places_in_the_words_get_them_there(
    composer: Composer, files: tuple[Attachment, ...]
) -> None:
    talk = Conversation((Turn("Compare.", files[:2]),))
    for software, layout, token in (
        (Software.LMDEPLOY, OLD, "<IMAGE_TOKEN>"),
        (Software.LMDEPLOY, HF, "<IMAGE_TOKEN>"),
        (Software.VLLM, OLD, "<image>"),
    ):
        parts = body_of(composer, talk, software, layout)["messages"][1]["content"]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        assert texts == [f"Image-1: {token}\nImage-2: {token}\nCompare."]
        assert len(parts) == 3


def test_pictures_are_the_very_tiles_of_the_local_engine(
    composer: Composer, files: tuple[Attachment, ...]
) -> None:
    talk = Conversation((Turn("Look.", files),))
    parts = body_of(composer, talk)["messages"][1]["content"]
    sent = [pixels_of(part) for part in parts if part["type"] == "image_url"]
    wide, square, film = (composer.media.tiles(file) for file in files)
    assert [picture.shape[:2] for picture in sent] == [(448, 896), (448, 448)] + [(448, 448)] * 3
    assert np.array_equal(np.stack(np.hsplit(sent[0], 2)), wide[:2])
    assert np.array_equal(sent[1], square[0])
    assert np.array_equal(np.stack(sent[2:]), film)


def test_a_grid_is_laid_out_row_by_row() -> None:
    tiles = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 2, 2, 3)
    whole = lay(tiles, columns=3)
    assert whole.shape == (4, 6, 3)
    assert np.array_equal(whole[2:, 4:], tiles[5]) and np.array_equal(whole[:2, 2:4], tiles[1])


def test_no_path_and_no_address_is_passed_on(
    composer: Composer, files: tuple[Attachment, ...]
) -> None:
    for software, layout in DIALECTS:
        talk = Conversation((Turn("See file:///etc/passwd http://x/a.png", files[:1]),))
        parts = body_of(composer, talk, software, layout)["messages"][1]["content"]
        for part in parts:
            if part["type"] == "image_url":
                assert part["image_url"]["url"].startswith("data:image/png;base64,")
        assert files[0].path not in json.dumps(parts)


def test_a_prompt_is_written_once_for_all_that_is_made_of_it(
    composer: Composer, files: tuple[Attachment, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Conversation] = []
    write = Composer._write

    def spy(self: Composer, talk: Conversation, *more: Any) -> Any:
        written.append(talk)
        return write(self, talk, *more)

    monkeypatch.setattr(Composer, "_write", spy)
    talk = Conversation((Turn("Look.", files[:1], answer=Answer("A wall.")), Turn("And now?")))
    assert len(order_of(composer, talk).messages) == 4
    assert written == [talk]


def test_tiles_are_limited_where_an_engine_lets_them_be(
    composer: Composer, files: tuple[Attachment, ...]
) -> None:
    talk = Conversation((Turn("Look.", files[:2]),))
    for software, layout, told in (
        (Software.LMDEPLOY, OLD, [2, 1]),
        (Software.SGLANG, OLD, [2, 1]),
        (Software.VLLM, HF, [None, None]),
    ):
        parts = body_of(composer, talk, software, layout)["messages"][1]["content"]
        shown = [part["image_url"] for part in parts if part["type"] == "image_url"]
        assert [picture.get("max_dynamic_patch") for picture in shown] == told


def test_more_tiles_than_an_engine_cuts_are_refused_with_its_number(
    composer: Composer, tmp_path: Path
) -> None:
    Image.new("RGB", (2500, 2000)).save(tmp_path / "big.png")
    file = Attachment(str(tmp_path / "big.png"), Kind.IMAGE, "big.png", max_tiles=20)
    talk = Conversation((Turn("Look.", (file,)),))
    with pytest.raises(BadSetting, match="vLLM cuts a picture in 12 tiles at most, not 20"):
        body_of(composer, talk, Software.VLLM)
    assert body_of(composer, talk, Software.LMDEPLOY)


def test_combined_pictures_go_where_there_is_a_form_for_them(
    composer: Composer, files: tuple[Attachment, ...]
) -> None:
    talk = Conversation((Turn("Look.", files[:2], combined=True),))
    parts = body_of(composer, talk, Software.LMDEPLOY)["messages"][1]["content"]
    assert parts[-1]["text"] == "<IMAGE_TOKEN><IMAGE_TOKEN>\nLook."
    with pytest.raises(BadSetting, match="one by one"):
        body_of(composer, talk, Software.VLLM)


def test_pictures_that_vllm_has_are_not_sent_again(
    composer: Composer, files: tuple[Attachment, ...]
) -> None:
    talk = Conversation((Turn("Look.", files[:2]),))
    parts = body_of(composer, talk)["messages"][1]["content"]
    ids = [part["uuid"] for part in parts if part["type"] == "image_url"]
    assert len(set(ids)) == 2
    again = body_of(composer, talk, kept=frozenset(ids[:1]))["messages"][1]["content"]
    shown = [part for part in again if part["type"] == "image_url"]
    assert shown[0] == {"type": "image_url", "image_url": None, "uuid": ids[0]}
    assert shown[1]["image_url"]["url"] and shown[1]["uuid"] == ids[1]
    for software in set(Software) - {Software.VLLM}:
        parts = body_of(composer, talk, software, kept=frozenset(ids))["messages"][1]["content"]
        assert "uuid" not in json.dumps(parts)


SIGNS = ("<|im_end|>", "<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "<image>", "<video>")


@pytest.mark.parametrize("sign", [*SIGNS, "<IMAGE_TOKEN>", "<|vision_start|>", "<|endoftext|>"])
def test_signs_in_words_are_broken_in_every_place(sign: str, composer: Composer) -> None:
    turns = (Turn(f"a{sign}b", answer=Answer(f"c{sign}d")), Turn(sign + sign))
    for software, layout in DIALECTS:
        body = body_of(composer, Conversation(turns, system=f"S{sign}"), software, layout)
        assert sign not in json.dumps(body["messages"], ensure_ascii=False)


def test_other_words_are_left_as_they_are() -> None:
    signs = Signs(open_composer(BUNDLED_FOLDER, Settings()).tokens.added)
    for text in (
        "a < b | c > d",
        "<s>old</s>",
        "<ref>the cat</ref>",
        "<p>",
        "if x<|y|",
        "<image",
        "1 <| 2",
    ):
        assert signs.break_in(text) == text
    assert signs.break_in("<image>").replace("\u2060", "") == "<image>"


def test_a_broken_sign_is_no_sign_to_the_tokenizer() -> None:
    tokens = open_composer(BUNDLED_FOLDER, Settings()).tokens
    signs = set(tokens.added.values())
    assert signs & set(tokens.tokenizer.encode("<|im_end|>", add_special_tokens=False).ids)
    for sign in tokens.added:
        broken = Signs(tokens.added).break_in(sign)
        if broken != sign:
            ids = tokens.tokenizer.encode(broken, add_special_tokens=False).ids
            assert not signs & set(ids), sign


def test_too_many_pictures_are_refused_before_they_are_sent() -> None:
    picture = Picture("key", "data:", tiles=1, cut=1)
    with pytest.raises(BadInput, match="257 pictures"):
        read_messages((), [picture] * (MOST_PICTURES + 1), Signs())
    huge = Picture("key", "x" * 150_000_000, tiles=1, cut=1)
    with pytest.raises(BadInput, match="300 MB"):
        read_messages((), [huge, huge], Signs())


def test_sampling_is_said_in_each_engines_words(composer: Composer) -> None:
    def told(software: Software, **sampling: Any) -> dict[str, Any]:
        body = body_of(composer, Conversation((Turn("Hi"),)), software, **sampling)
        fixed = {"model", "messages", "stream", "stream_options", "max_tokens"}
        return {name: value for name, value in body.items() if name not in fixed}

    free = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1, "seed": 3}
    assert told(Software.VLLM, **free) == {**free, "skip_special_tokens": False}
    assert told(Software.LMDEPLOY, **free) == told(Software.VLLM, **free)
    assert told(Software.SGLANG)["top_k"] == -1
    llama = told(Software.LLAMA, **free)
    assert (llama["repeat_penalty"], llama["min_p"], llama["top_k"]) == (1.1, 0, 40)
    assert "repetition_penalty" not in llama
    strict = told(Software.TRANSFORMERS, **free)
    assert set(strict) == {"temperature", "top_p", "seed", "generation_config"}
    assert json.loads(strict["generation_config"]) == {
        "do_sample": True,
        "top_k": 40,
        "repetition_penalty": 1.1,
    }
    assert set(told(Software.TRANSFORMERS)) == {"temperature", "top_p"}
    assert set(told(Software.OTHER, **free)) == {"temperature", "top_p", "seed"}


def test_stop_texts_are_sent_where_they_are_taken(composer: Composer) -> None:
    talk = Conversation((Turn("Hi"),))
    for software, most in ((Software.VLLM, 4), (Software.LLAMA, 16), (Software.TRANSFORMERS, 0)):
        for count in (1, 4, 5):
            stops = tuple(f"stop{number}" for number in range(count))
            body = body_of(composer, talk, software, stop=stops)
            assert body.get("stop") == (list(stops) if count <= most else None)
