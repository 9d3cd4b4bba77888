"""Every recorded case through the command line, in both layouts, answers as the official code did.

The pictures of the recording are saved without loss; those of its video become frames of a real
video file, where the model card's own choice of frames finds them.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import app
from backend.checkpoint.facts import Layout, read_facts
from backend.checkpoint.tokenizer import read_tokens
from backend.conversation import Attachment, Kind
from backend.local.load import load_network
from backend.local.placement import Placement
from backend.media.frames import choose_frames
from tests.backend.local.golden import FOLDER, NAMES, RecordedCase, draw, recorded, recorded_cases

FRAMES_OF_THE_FILE, FPS = 64, 8


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=Layout)
def model(
    request: pytest.FixtureRequest, name: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The checkpoint as it was recorded, and the same weights in the -hf layout."""
    if request.param is Layout.ORIGINAL:
        return FOLDER / name
    folder = shutil.copytree(FOLDER / name, tmp_path_factory.mktemp("native") / name)
    placement = Placement(torch.float32)
    network = load_network(
        FOLDER / name, Layout.ORIGINAL, read_tokens(folder), placement, lambda share: None
    )
    save_file(network.state_dict(), folder / "model.safetensors", {"format": "pt"})
    network.config.save_pretrained(folder)
    assert read_facts(folder).layout is Layout.HF
    return folder


def pictures_of(file: Attachment) -> list[Image.Image]:
    return [draw(*map(int, size.split(","))) for size in file.path.split(";")]


def save_picture(file: Attachment, folder: Path) -> str:
    path = folder / f"{file.path}.png"
    (picture,) = pictures_of(file)
    picture.save(path)
    return f"{path}#tiles={file.max_tiles}" if file.max_tiles else str(path)


def save_video(file: Attachment, folder: Path) -> str:
    """A film without loss, in which each picture stands from its chosen frame to the next."""
    pictures = pictures_of(file)
    chosen = choose_frames(FRAMES_OF_THE_FILE, FPS, len(pictures))
    assert len(set(chosen)) == len(pictures)
    path = folder / "film.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=FPS)
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "rgb24"
        for index in range(FRAMES_OF_THE_FILE):
            number = max(0, sum(start <= index for start in chosen) - 1)
            frame = av.VideoFrame.from_ndarray(np.asarray(pictures[number]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return f"{path}#frames={len(pictures)}"


def words_of(case: RecordedCase, folder: Path) -> Iterator[str]:
    """The command line that asks what a case asks."""
    for number, turn in enumerate(case.turns):
        yield from (["--then"] if number else [])
        yield turn.asked.question
        for file in turn.asked.attachments:
            film = file.kind is Kind.VIDEO
            yield "--video" if film else "--image"
            yield save_video(file, folder) if film else save_picture(file, folder)
    if case.turns[0].asked.combined:
        yield "--combined"


def options_of(name: str, model: Path) -> Sequence[str]:
    most = str(recorded(name)["max_new_tokens"])
    return ["--model", str(model), "--max-new-tokens", most, "--dtype", "float32"]


def check(told: Any, expected: Any, model: Path) -> None:
    text = read_tokens(model).decode(told["token_ids"]).strip()
    assert text == expected.response
    assert not expected.ids or tuple(told["token_ids"]) == expected.ids


@pytest.mark.parametrize("number", range(6))
def test_a_recorded_conversation_comes_out_token_for_token(
    number: int, name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = conversations(name)[number]
    words = [*words_of(case, tmp_path), *options_of(name, model), "--json"]
    assert app.main(["ask", *words]) == 0
    told = json.loads(capsys.readouterr().out)["turns"]
    assert len(told) == len(case.turns)
    for turn, expected in zip(told, case.turns, strict=True):
        check(turn, expected, model)


def conversations(name: str) -> list[RecordedCase]:
    return [case for case in recorded_cases(name) if "batch" not in case.kind]


def test_every_kind_is_among_them(name: str) -> None:
    asked = [case.turns[0].asked for case in conversations(name)]
    kinds = {tuple(file.kind for file in turn.attachments) for turn in asked}
    assert len(asked) == 6
    assert {(), (Kind.IMAGE,), (Kind.IMAGE, Kind.IMAGE), (Kind.VIDEO,)} == kinds
    assert {turn.combined for turn in asked if len(turn.attachments) == 2} == {False, True}


def test_the_recorded_batch_comes_out_as_rows_of_a_file(
    name: str, model: Path, tmp_path: Path
) -> None:
    cases = [case for case in recorded_cases(name) if "batch" in case.kind]
    assert len(cases) == 2
    rows, out = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    asked = [case.turns[0].asked for case in cases]
    made = [
        {"question": turn.question, "images": [save_picture(f, tmp_path) for f in turn.attachments]}
        for turn in asked
    ]
    rows.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    words = ["--batch", str(rows), "--out", str(out), *options_of(name, model)]
    assert app.main(["ask", *words]) == 0
    told = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    for row, case in zip(told, cases, strict=True):
        check(row, case.turns[0], model)
