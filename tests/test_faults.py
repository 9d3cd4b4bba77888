"""Bad input and faults, each line of the list held by a test on the real checkpoint.

    line                                    held here by                        and by
    --------------------------------------  ----------------------------------  ------------------
    empty, truncated, text-named-.png,      REFUSED: by the engine, and by      media/test_images,
    SVG, 20 kB of 169 megapixels, header    the command line before a model     media/test_recognise
    of 60 000 x 60 000                      is loaded
    1 x 1, 1 x 10 000                       ANSWERED                            media/test_images
    audio-only, cut, empty video            REFUSED                             media/test_video
    AV1, 1 frame, 8192 x 4320, ten hours    ANSWERED                            media/test_video
    playlist named .mp4, no network         REFUSED, test_a_playlist_…          media/test_recognise
    30 images                               test_thirty_pictures_…              prompt/test_budget
    context overflow                        test_a_question_that_overflows_…    prompt/test_budget
    empty question                          test_an_empty_question_…            ui/test_handlers
    max-new-tokens 0, 10⁹                   test_lengths_out_of_range_…         test_conversation
    exception at prefill, token 1, 10       test_an_exception_inside_…          local/test_engine
    the model fails to load                 test_damaged_weights_…              local/test_engine
    Stop twice, after the end               test_stop_pressed_again_…           local/test_engine
    Stop by another session                 test_stop_ends_its_own_…            ui/test_handlers
    two sessions at once                    test_two_sessions_at_once_…         ui/test_client

After every fault the same engine must answer the next question as it did before.
"""

import io
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image, ImageDraw

import app
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import Attachment, Conversation, End, Kind, Request, Sampling, Turn
from backend.engine import State
from backend.errors import (
    BadCheckpoint,
    BadFile,
    BadQuestion,
    BadSetting,
    EngineFailed,
    TooLong,
)
from backend.local.engine import LocalEngine, load_checkpoint
from backend.media.recognise import Found, attach
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.media.corpus import bomb, picture, png, sound, video

LONG = "What can you do?"  # answered with more than twenty tokens
WAIT_S = 60  # for what must happen; machines may be busy


@dataclass
class Desk:
    """The bundled checkpoint behind a real engine. `on_step` runs before each step of its
    language model with the number of the step; 0 reads the prompt.

    It answers one at a time, else steps would be several people's: a step that fails for several
    is tried in tests/backend/local/together.
    """

    on_step: Callable[[int], None] = lambda step: None
    models: list[Any] = field(default_factory=list)
    step: int = 0

    def load(self, settings: Settings, composer: Any, report: Any) -> Any:
        model: Any = load_checkpoint(settings, composer, report)
        model._network.model.language_model.register_forward_pre_hook(self._count)
        self.models.append(model)
        return model

    def _count(self, *_: object) -> None:
        self.step += 1
        self.on_step(self.step - 1)

    def ask(self, question: str, *files: Attachment, session: str = "", **sampling: Any) -> Any:
        """The stream that answers one question."""
        conversation = Conversation().asked(Turn(question, files))
        return self.engine.stream(Request(conversation, Sampling(**sampling), session))

    def answer(self, question: str, *files: Attachment, **more: Any) -> str:
        return "".join(self.ask(question, *files, **more))

    def start(self) -> None:
        self.engine = LocalEngine(Settings(batching="off"), self.load)
        self.engine.start()
        self.usual = self.answer(LONG)
        self.steps = self.step


@pytest.fixture(scope="module")
def shared() -> Iterator[Desk]:
    desk = Desk()
    desk.start()
    yield desk
    desk.engine.close()


@pytest.fixture
def desk(shared: Desk) -> Iterator[Desk]:
    """The shared desk; whatever the test did to it, it answers as before."""
    shared.step = 0
    yield shared
    shared.on_step = lambda step: None
    assert shared.answer(LONG, session="next") == shared.usual
    assert shared.engine.status().state is State.READY and not shared.engine.status().waiting


def scene(colour: str, path: Path, size: tuple[int, int] = (224, 224)) -> Attachment:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((60, 60, 160, 160), colour)
    image.save(path)
    return attach(str(path))


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def jpeg() -> bytes:
    saved = io.BytesIO()
    picture().save(saved, "JPEG")
    return saved.getvalue()


def ten_hours(path: Path) -> None:
    """3,600 frames, one every ten seconds."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=Fraction(1, 10))
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), "red")).reformat(
            format="yuv420p"
        )
        for at in range(3600):
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def cut_mp4(path: Path) -> None:
    path.write_bytes(half(video(path).read_bytes()))


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>'
PLAYLIST = (
    b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:%d/a.ts\n#EXT-X-ENDLIST\n"
)
Make = bytes | Callable[[Path], object]
REFUSED: dict[str, tuple[Make, str]] = {
    "empty.png": (b"", "the file is empty"),
    "cut.jpg": (half(jpeg()), "damaged or cut off"),
    "text.png": (b"This is no picture.", "text"),
    "drawing.png": (SVG, "an SVG drawing"),
    "bomb.png": (bomb(13_000, 13_000), "169 megapixels"),
    "header.png": (png(60_000, 60_000, 8, 2, b""), "60,000 × 60,000"),
    "sound.mp4": (sound, "no moving pictures"),
    "cut.mp4": (cut_mp4, "cut off"),
    "empty.mp4": (b"", "the file is empty"),
    "playlist.mp4": (PLAYLIST % 9, "a playlist"),
}
ANSWERED: dict[str, tuple[Callable[[Path], object], int]] = {  # and how many tiles they make
    "dot.png": (Image.new("RGB", (1, 1), "red").save, 1),
    "line.png": (Image.new("RGB", (1, 10_000), "red").save, 1),
    "av1.mp4": (lambda path: video(path, "libsvtav1", frames=8), 8),
    "still.mp4": (lambda path: video(path, frames=1), 8),
    "8k.mp4": (
        lambda path: video(path, size=(8192, 4320), frames=1, options={"preset": "ultrafast"}),
        8,
    ),
    "ten_hours.mp4": (ten_hours, 8),
}


def make(path: Path, content: Make) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    return path


def kind_of(name: str) -> Kind:
    return Kind.VIDEO if name.endswith(".mp4") else Kind.IMAGE


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_file_is_refused_by_name_with_the_cause_and_a_remedy(
    name: str,
    desk: Desk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content, cause = REFUSED[name]
    path = make(tmp_path / name, content)
    with pytest.raises(BadFile) as refusal:
        desk.answer("What is here?", Attachment(str(path), kind_of(name), name))
    told = refusal.value
    assert told.cause.startswith(f"{name}: ") and told.advice
    assert str(tmp_path) not in str(told)
    monkeypatch.delattr("backend.local.engine.LocalEngine.start")  # no model is needed to refuse
    assert app.main(["ask", "What is here?", f"--{kind_of(name)}", str(path)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"{name}: ") and cause in said.err


@pytest.mark.parametrize("name", ANSWERED)
def test_an_odd_file_that_can_be_read_is_answered(name: str, desk: Desk, tmp_path: Path) -> None:
    content, tiles = ANSWERED[name]
    file = attach(str(make(tmp_path / name, content)))
    stream = desk.ask("What is here?", file, max_new_tokens=8)
    assert "".join(stream).strip()
    assert stream.statistics.visual_tokens == 16 * tiles


@pytest.mark.parametrize("recognised", [True, False])
@pytest.mark.parametrize("text", [PLAYLIST, b"ffconcat version 1.0\nfile http://127.0.0.1:%d/a\n"])
def test_a_playlist_touches_no_network_even_where_it_is_taken_for_a_video(
    text: bytes, recognised: bool, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        path = make(tmp_path / "list.mp4", text % server.getsockname()[1])
        if not recognised:
            path = path.rename(tmp_path / "list.m3u8")  # FFmpeg itself is wary of other names
            found = Found(Kind.VIDEO, "mov")
            monkeypatch.setattr("backend.media.video.examine", lambda *_: found)
        with pytest.raises(BadFile, match=r"^list\.mp4: "):
            desk.answer("?", Attachment(str(path), Kind.VIDEO, "list.mp4"))
        with pytest.raises(BlockingIOError):  # nobody called
            server.accept()


def test_a_bad_file_among_good_ones_is_named(desk: Desk, tmp_path: Path) -> None:
    files = [scene("red", tmp_path / f"{number}.png") for number in range(5)]
    (tmp_path / "3.png").write_bytes(b"")
    with pytest.raises(BadFile, match=r"^3\.png: the file is empty"):
        desk.answer("Compare them.", *files)


def test_thirty_pictures_that_fit_are_all_looked_at(desk: Desk, tmp_path: Path) -> None:
    files = [scene("red", tmp_path / f"{number}.png") for number in range(30)]
    stream = desk.ask("What is here?", *files, max_new_tokens=4)
    assert "".join(stream)
    assert stream.statistics.visual_tokens == 30 * 16


def test_thirty_pictures_that_do_not_fit_are_refused_with_a_remedy_that_works(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [scene("red", tmp_path / f"{number}.png", (448, 336)) for number in range(30)]
    large = [Attachment(file.path, file.kind, file.name, max_tiles=12) for file in files]
    with pytest.raises(TooLong) as refusal:
        desk.answer("What is here?", *large)
    tiles = int(refusal.value.advice.removeprefix("Use ").split()[0])
    assert refusal.value.advice.endswith("per image.") and "of 2,048 tokens" in refusal.value.cause
    fewer = [Attachment(file.path, file.kind, file.name, max_tiles=tiles) for file in files]
    assert desk.answer("What is here?", *fewer, max_new_tokens=4)
    words = [word for file in files for word in ("--image", file.path)]
    assert app.main(["ask", "What is here?", *words, "--max-tiles", "12", "--dry-run"]) == 2
    assert capsys.readouterr().err == f"{refusal.value}\n"


def test_a_question_that_overflows_the_context_is_refused_with_the_numbers(desk: Desk) -> None:
    with pytest.raises(TooLong, match=r"of 2,048 tokens .* it does not fit\. Shorten the text\."):
        desk.answer("word " * 4000)


def test_an_answer_has_the_room_that_the_context_leaves(desk: Desk) -> None:
    stream = desk.ask("word " * 1900, max_new_tokens=32_768)
    assert "".join(stream)
    assert stream.statistics.prompt_tokens + stream.statistics.new_tokens <= 2048


@pytest.mark.parametrize("question", ["", " \n\t "])
def test_an_empty_question_is_refused(question: str, desk: Desk) -> None:
    with pytest.raises(BadQuestion, match="no question"):
        desk.answer(question)
    assert app.main(["ask", question]) == 2


@pytest.mark.parametrize("tokens", [0, 10**9])
def test_lengths_out_of_range_are_refused_by_name(
    tokens: int, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadSetting, match=f"max new tokens is {tokens:,}. Choose .* to 32,768"):
        desk.ask("Hello", max_new_tokens=tokens)
    assert app.main(["ask", "Hello", "--max-new-tokens", str(tokens)]) == 2
    assert capsys.readouterr().err.startswith(f"The max new tokens is {tokens:,}. Choose ")


@pytest.mark.parametrize("at", [0, 1, 10])
def test_an_exception_inside_generation_reaches_the_reader_and_no_one_else(
    at: int, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(step: int) -> None:
        if step == at:
            raise RuntimeError("secret of /home/person at 0x7f")

    desk.on_step = fail
    stream = desk.ask(LONG, session="unlucky")
    other = desk.ask(LONG, session="other")
    pieces: list[str] = []
    with caplog.at_level(logging.ERROR), pytest.raises(EngineFailed) as failure:
        pieces.extend(stream)
    when = f"after {at} tokens" if at else "before the first token"
    assert when in failure.value.cause and "Ask again" in failure.value.advice
    assert not any(leak in str(failure.value) for leak in ("secret", "/", "0x"))
    assert desk.usual.startswith("".join(pieces)) and len(stream.token_ids) == at
    assert "".join(other) == desk.usual


def test_damaged_weights_are_told_to_those_who_ask_and_to_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(BUNDLED_FOLDER, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(half(weights.read_bytes()))
    engine = LocalEngine(Settings(model=str(folder)))
    engine.start()
    until = time.monotonic() + WAIT_S
    while engine.status().state is State.LOADING and time.monotonic() < until:
        time.sleep(0.01)
    status = engine.status()
    assert status.state is State.FAILED and "Delete it and download" in status.reason
    for _ in range(2):
        with pytest.raises(BadCheckpoint, match="Delete it and download"):
            engine.stream(Request(Conversation().asked(Turn("Hello"))))
    engine.close()
    assert app.main(["ask", "Hello", "--model", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err == f"{status.reason}\n"


def held(desk: Desk, at: int, session: str) -> tuple[AnswerStream, threading.Event]:
    """A request held before its step `at`, and what lets it go on."""
    reached, go = threading.Event(), threading.Event()

    def hold(step: int) -> None:
        if step == at:
            reached.set()
            assert go.wait(WAIT_S)

    desk.on_step = hold
    stream = desk.ask(LONG, session=session)
    assert reached.wait(WAIT_S)
    return stream, go


@pytest.mark.parametrize("at", [0, 5])
def test_stop_pressed_again_and_after_the_end_changes_nothing(at: int, desk: Desk) -> None:
    stream, go = held(desk, at, "impatient")
    for _ in range(3):
        stream.close()
    told = "".join(stream)
    go.set()
    assert desk.answer(LONG, session="next") == desk.usual
    assert desk.step == at + 1 + desk.steps, "the model went on after Stop"
    assert stream.statistics is not None and stream.statistics.end is End.STOPPED
    assert desk.usual.startswith(told) and len(stream.token_ids) == at
    stream.close()
    finished = desk.ask("Hello")
    assert "".join(finished)
    finished.close()
    assert finished.statistics.end is End.EOS


def test_stop_ends_its_own_session_s_answer_alone(desk: Desk) -> None:
    running, go = held(desk, 5, "one")
    waiting = desk.ask(LONG, session="two")
    waiting.close()
    go.set()
    assert "".join(running) == desk.usual
    assert running.statistics is not None and running.statistics.end is End.EOS
    assert "".join(waiting) == ""


def test_two_sessions_at_once_get_their_own_answers(desk: Desk, tmp_path: Path) -> None:
    files = {colour: scene(colour, tmp_path / f"{colour}.png") for colour in ("red", "blue")}
    asked = "What do you see?"
    alone = {colour: desk.answer(asked, file) for colour, file in files.items()}
    assert all(colour in alone[colour] for colour in files)
    streams = [
        (colour, desk.ask(asked, file, session=colour))
        for _ in range(4)
        for colour, file in files.items()
    ]
    told: list[tuple[str, str]] = []
    threads = [
        threading.Thread(target=lambda c=colour, s=stream: told.append((c, "".join(s))))
        for colour, stream in streams
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8 and all(answer == alone[colour] for colour, answer in told)
