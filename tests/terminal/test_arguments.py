"""The command line means what its help says, and refuses everything else in one line."""

from pathlib import Path

import pytest

from backend.conversation import Attachment, Kind, Sampling
from backend.errors import BadInput
from backend.settings import Settings
from terminal.arguments import ASK_EPILOG, COMMANDS, Ask, Serve, read_ask, read_command
from terminal.report import conversation_object
from tests.terminal.answers import ANSWERED


def image(path: str, tiles: int | None = None) -> Attachment:
    return Attachment(path, Kind.IMAGE, Path(path).name, max_tiles=tiles)


def files_of(command: Ask) -> list[tuple[Attachment, ...]]:
    return [turn.attachments for turn in command.turns]


def test_no_words_serve_the_page_with_the_defaults() -> None:
    assert read_command([]) == Serve(Settings())


def test_the_page_is_served_as_told() -> None:
    words = "--host 0.0.0.0 --port 80 --max-queue 3 --model 2B --decoder decord --frames 16"
    assert read_command(f"{words} --tiling fast".split()) == Serve(
        Settings("2B", "0.0.0.0", 80, max_queue=3, decoder="decord", frames=16, tiling="fast")
    )


@pytest.mark.parametrize(
    ("words", "may"),
    [
        ("", True),
        ("--host localhost", True),
        ("--host 0.0.0.0", False),
        ("--root-path /chat", False),  # behind a proxy, which serves others
        ("--host 0.0.0.0 --pick", True),
        ("--no-pick", False),
        ("--engine http://127.0.0.1:1", False),
    ],
)
def test_the_page_may_change_the_model_where_nobody_else_is_served(words: str, may: bool) -> None:
    assert read_command(words.split()).settings.may_pick is may


@pytest.mark.parametrize("command", ["", "ask Q"])
def test_the_model_is_loaded_as_told(command: str) -> None:
    words = "--model 8B --revision v1 --dtype float16 --quantize nf4 --attention sdpa"
    words = f"{command} {words} --context 4096 --strategy card --offload"
    found = read_command(words.split())
    assert isinstance(found, Ask | Serve)
    assert found.settings == Settings(
        "8B",
        revision="v1",
        dtype="float16",
        quantize="nf4",
        attention="sdpa",
        context=4096,
        strategy="card",
        offload=True,
    )


@pytest.mark.parametrize("words", [["--help"], ["ask", "--help"]])
def test_the_help_tells_what_auto_takes_and_why(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read_command(words)
    told = " ".join(capsys.readouterr().out.split())
    assert "auto takes bfloat16 on a GPU that computes in it and float16 on others (half" in told
    assert "on the processor float32, which was quickest there" in told
    assert "auto takes flash attention where it is installed" in told


def test_a_question_alone_is_asked_greedily_of_the_bundled_checkpoint() -> None:
    command = read_command(["ask", "Who are you?"])
    assert isinstance(command, Ask)
    assert (command.settings, command.sampling) == (Settings(), Sampling())
    assert [turn.question for turn in command.turns] == ["Who are you?"]
    assert command.system is None


def test_sampling_is_as_told() -> None:
    words = "--max-new-tokens 9 --temperature 0.7 --top-p 0.9 --top-k 40 --seed 7"
    command = read_command(["ask", "Q", *words.split(), "--repetition-penalty", "1.1"])
    assert isinstance(command, Ask)
    assert command.sampling == Sampling(0.7, 0.9, 40, 1.1, 9, 7)


def test_files_belong_to_the_question_that_they_follow() -> None:
    words = "--image a.png First --video b.mp4 --then Second --image c.png --then Third"
    command = read_ask(words.split())
    assert [turn.question for turn in command.turns] == ["First", "Second", "Third"]
    video = Attachment("b.mp4", Kind.VIDEO, "b.mp4")
    assert files_of(command) == [(image("a.png"), video), (image("c.png"),), ()]


def test_a_files_own_choice_wins_over_the_choice_for_all() -> None:
    words = "Q --image x/a.png#tiles=6 --image b.png --max-tiles 2 --frames 4 --to 9"
    command = read_ask([*words.split(), "--video", "c.mp4#frames=16,from=1.5"])
    video = Attachment("c.mp4", Kind.VIDEO, "c.mp4", frames=16, start_s=1.5, end_s=9)
    assert files_of(command) == [(image("x/a.png", 6), image("b.png", 2), video)]


def test_a_file_that_really_bears_the_mark_in_its_name_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png#tiles=6"
    path.touch()
    assert files_of(read_ask(["Q", "--image", str(path)])) == [(image(str(path)),)]
    assert files_of(read_ask(["Q", "--image", f"{path}#tiles=3"])) == [(image(str(path), 3),)]


def test_a_mark_without_a_choice_is_part_of_the_name() -> None:
    assert files_of(read_ask(["Q", "--image", "take#2.png"])) == [(image("take#2.png"),)]


def test_combined_concerns_every_question() -> None:
    command = read_ask(["A", "--combined", "--image", "a.png", "--then", "B"])
    assert [turn.combined for turn in command.turns] == [True, True]


@pytest.mark.parametrize(
    "words",
    [
        "ask",
        "ask Q --nonsense",
        "ask Q --temp 1",  # no abbreviations: they break when an option is added
        "ask Q --seed x",
        "ask Q --max-new-tokens 1e9",
        "ask Q --decoder opencv",
        "ask Q --tiling quick",
        "ask Q --dtype int4",
        "ask Q --attention flash",
        "--quantize fp8",
        "--strategy offload",
        "ask Q R",
        "aks Q",
        "--port x",
        "--model",
    ],
)
def test_words_that_are_no_command_end_with_one_line(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        read_command(words.split())
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err.count("\n") == 1 and said.err.endswith("--help)\n")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["ask", ""], "question"),
        (["ask", " \n"], "question"),
        (["ask", "Q", "--then", ""], "question"),
        (["ask", "Q", "--max-new-tokens", "0"], "max new tokens"),
        (["ask", "Q", "--max-new-tokens", "1000000000"], "max new tokens"),
        (["ask", "Q", "--temperature", "-1"], "temperature"),
        (["ask", "Q", "--temperature", "nan"], "temperature"),
        (["ask", "Q", "--temperature", "inf"], "temperature"),
        (["ask", "Q", "--top-p", "0"], "top-p"),
        (["ask", "Q", "--top-k", "-1"], "top-k"),
        (["ask", "Q", "--repetition-penalty", "0"], "repetition penalty"),
        (["ask", "Q", "--seed", "-1"], "seed"),
        (["ask", "Q", "--max-tiles", "0"], "tiles"),
        (["ask", "Q", "--frames", "0"], "frames"),
        (["ask", "Q", "--image", "a.png#tiles=0"], "a.png"),
        (["ask", "Q", "--image", "a.png#tiles=six"], "a.png"),
        (["ask", "Q", "--image", "a.png#frames=6"], "a.png"),
        (["ask", "Q", "--video", "b.mp4#from=nan"], "b.mp4"),
        (["ask", "Q", "--video", "b.mp4#from=2,to=1"], "b.mp4"),
        (["ask", "Q", "--video", "b.mp4", "--from", "-1"], "b.mp4"),
        (["ask", "Q", "--image", "a.png", "--from", "1"], "--from and --to are of a video"),
        (["ask", "Q", "--to", "0"], "--from and --to are of a video"),
        (["ask", "Q", "--model", ""], "No model is named"),
        (["--model", " "], "No model is named"),
        (["--pick", "--engine", "http://127.0.0.1:1"], "elsewhere"),
        (["--port", "65536"], "port"),
        (["--max-queue", "0"], "queue"),
        (["--frames", "0"], "frames"),
        (["--context", "9"], "context"),
        (["--cache-gb", "-1"], "cache"),
        (["--host-cache-gb", "-1"], "host's cache"),
    ],
)
def test_values_out_of_their_range_are_named(words: list[str], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        read_command(words)


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_the_help_explains_every_option(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        read_command(words)
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    explained = [line.split() for line in lines if line.startswith("  --")]
    assert len(explained) > 5
    for number, line in enumerate(lines):
        if line.startswith("  --") and len(line.split()) < 4:
            assert lines[number + 1].startswith(" " * 20), line


def test_the_help_names_every_key_of_the_object() -> None:
    report = conversation_object("m", [ANSWERED])
    (turn,) = report["turns"] if isinstance(report["turns"], list) else ()
    for key in (*report, *turn):
        assert f'"{key}"' in ASK_EPILOG
