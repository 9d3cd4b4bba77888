"""A dry run shows exactly what upstream's code would make the model read, and loads no model."""

import json
from pathlib import Path
from typing import Any

import pytest

from app import main
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.media.frames import choose_frames
from tests.backend.checkpoint.folders import ORIGINAL, ORIGINALS
from tests.terminal.media import make_picture, make_video

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "prompts.json").read_text("utf-8"))


def dry_run(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The object that `ask … --dry-run --json` prints for an original checkpoint."""
    model = () if "--model" in words else ("--model", str(ORIGINAL))
    status = main(["ask", *words, *model, "--dry-run", "--json"])
    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    return json.loads(said.out)


def words_of(case: dict[str, Any], folder: Path) -> list[str]:
    """The command line of a recorded case; pictures and the video are of the recorded sizes."""
    first, *later = [question.rpartition("<image>\n")[2] for question, _ in case["turns"]]
    return [
        first,
        *files_of(case, folder),
        *(word for question in later for word in ("--then", question)),
        *(() if case["system"].startswith("你") else ("--system", case["system"])),
    ]


def files_of(case: dict[str, Any], folder: Path) -> list[str]:
    tiles = case["tiles_per_image"]
    if case["kind"].startswith("video"):
        return ["--video", f"{make_video(folder)}#frames={len(tiles)}"]
    combined = case["kind"].endswith("combined")
    files = [str(make_picture(folder, count)) for count in ((13, 7) if combined else tiles)]
    words = [word for file in files for word in ("--image", file)]
    return [*words, "--combined"] if combined else words


def without_answers(case: dict[str, Any]) -> str:
    prompt = str(case["prompt"])
    for _, answer in case["turns"]:
        prompt = prompt.replace(f"assistant\n{answer}<", "assistant\n<") if answer else prompt
    return prompt


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["kind"])
def test_prompts_are_upstreams(
    case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = dry_run(capsys, *words_of(case, tmp_path))
    assert report["prompt"] == without_answers(case)
    assert report["tokens"]["visual"] == 256 * sum(case["tiles_per_image"])


def test_pictures_are_told_with_their_grid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide, square = make_picture(tmp_path, 13), make_picture(tmp_path, 5)
    later = ("--then", "R", "--image", f"{square}#tiles=1")
    report = dry_run(capsys, "Q", "--image", str(wide), *later)
    assert report["images"] == [
        {"file": str(wide), "width": 1792, "height": 1344, "columns": 4, "rows": 3, "tiles": 13},
        {"file": str(square), "width": 896, "height": 896, "columns": 1, "rows": 1, "tiles": 1},
    ]
    assert report["videos"] == []
    assert report["tokens"]["visual"] == 14 * 256


def test_videos_are_told_with_the_very_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = make_video(tmp_path, frames=40, fps=10)
    choices = ["--frames", "4", "--from", "1", "--to", "3"]
    report = dry_run(capsys, "Q", "--video", str(video), *choices)
    (told,) = report["videos"]
    assert (told["file"], told["frame_count"], told["fps"]) == (str(video), 40, 10)
    assert [frame["index"] for frame in told["frames"]] == choose_frames(40, 10, 4, 1, 3)
    assert all(frame["time_s"] == frame["index"] / 10 for frame in told["frames"])
    assert report["images"] == []


def test_tokens_add_up_to_what_the_context_holds(capsys: pytest.CaptureFixture[str]) -> None:
    tokens = dry_run(capsys, "Hello")["tokens"]
    total = tokens["total"]
    assert tokens == {"text": total, "visual": 0, "total": total, "limit": 32_768}
    longer = dry_run(capsys, "Hello Hello")["tokens"]
    assert longer["total"] > total


@pytest.mark.parametrize("folder", [*ORIGINALS, BUNDLED_FOLDER], ids=lambda folder: folder.name)
def test_any_checkpoint_of_either_layout_will_do(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = make_picture(tmp_path, 3)
    report = dry_run(capsys, "Q", "--image", str(picture), "--model", str(folder))
    assert f"<img>{{{report['tokens']['visual']}}}</img>\nQ<|im_end|>" in report["prompt"]
    assert report["tokens"]["total"] < report["tokens"]["limit"]


def test_what_a_person_types_is_words_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    typed = dry_run(capsys, "<img><IMG_CONTEXT></img><|im_end|>")["tokens"]
    assert typed["visual"] == 0
    assert typed["text"] > dry_run(capsys, "Q")["tokens"]["text"] + 10


def test_without_json_the_same_is_told_to_a_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, video = make_picture(tmp_path, 7), make_video(tmp_path)
    words = ["Q", "--image", str(picture), "--video", f"{video}#frames=2", "--model", str(ORIGINAL)]
    assert main(["ask", *words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "7.png: 1344 × 896 px, 3 × 2 → 7 tiles" in said
    assert "clip.mp4: 40 frames, 4.0 s at 10 fps → 2 at 0.90, 2.90 s" in said
    assert "2,304 visual + " in said and " text tokens of 32,768" in said
    assert said.endswith("<|im_start|>assistant\n\n")


def test_what_does_not_fit_is_shown_and_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["Q", *["--image", str(make_picture(tmp_path, 13))] * 10, "--model", str(ORIGINAL)]
    assert main(["ask", *words, "--dry-run", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["tokens"]["visual"] == 10 * 13 * 256 > 32_768
    assert said.err.count("\n") == 1
    assert "of 32,768 tokens" in said.err and "tiles" in said.err


def test_a_picture_is_not_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = make_picture(tmp_path, 3)
    assert main(["ask", "Q", "--video", str(picture), "--dry-run"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "3.png: this is an image, not a video. Use --image.\n")
