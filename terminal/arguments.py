"""Words of the command line → a checked, frozen command. The `--help` texts are the reference.

Reads no environment and imports nothing heavy: help and refusals come at once.
"""

import argparse
from argparse import BooleanOptionalAction
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from backend.conversation import (
    MOST_FRAMES,
    MOST_TILES,
    Attachment,
    Kind,
    Sampling,
    Turn,
    check_range,
)
from backend.errors import BadQuestion, BadSetting
from backend.settings import Settings
from terminal.door import add_door_options, with_own_keys
from terminal.engines import add_engine_options
from terminal.files import read_file_word, with_defaults
from terminal.parser import (
    DEFAULTS,
    Parser,
    add_loading_options,
    add_model_options,
    options,
    read_settings,
)
from terminal.plan import MakePlan, read_plan

GREEDY = Sampling()
MOST_ROWS = 64  # asked at once; their pictures are all in memory
# What --batch leaves to its rows.
OF_A_CONVERSATION = (
    "question",
    "steps",
    "combined",
    "max_tiles",
    "start_s",
    "end_s",
    "json",
    "dry_run",
)
SERVE_DESCRIPTION = "Chat with InternVL3 about pictures and videos, on a page of your own."
SERVE_EPILOG = """\
commands:
  app.py                  serve the page
  app.py ask QUESTION     answer in the terminal (see app.py ask --help)
  app.py plan [MODEL]     tell what fits on which devices (see app.py plan --help)

The page opens at once and tells how far the model is. Ctrl-C or SIGTERM ends it cleanly.
exit status: 0 ended, 2 bad input, 3 the app failed
"""
PICK_HELP = """\
let the page change the model, for everybody it serves (default: where only this machine can reach
it: --host is 127.0.0.1 or localhost and there is no --root-path)"""
MAX_QUEUE_HELP = """\
questions that may wait for their turn here; engines elsewhere have lines of their own"""
ROOT_PATH_HELP = "where a proxy serves the page: /chat, or https://host/chat"
ASK_DESCRIPTION = "Ask about pictures and videos; the answer is written as the model finds it."
ASK_EPILOG = """\
files:
  Those named before any --then belong to QUESTION, those after a --then to that question.
  A file's own choices follow its name: a.png#tiles=6, clip.mp4#frames=16,from=1.5,to=4;
  they win over --max-tiles, --frames, --from and --to, which concern all files.

--json prints one object:
  {"model", "turns": [{"question", "answer", "token_ids", "prompt_tokens", "visual_tokens",
   "new_tokens", "ttft_s", "tokens_per_s", "end": "eos" | "length" | "stopped"}]}
--dry-run --json prints what the model would read, where {N} stands for N visual tokens:
  {"prompt", "images": [{"file", "width", "height", "columns", "rows", "tiles"}],
   "videos": [{"file", "frame_count", "fps", "frames": [{"index", "time_s"}]}],
   "tokens": {"text", "visual", "total", "limit"}}
  With --then it shows the whole conversation, the answers that are not known left empty.

--batch reads rows such as
  {"question": "Compare.", "images": ["a.png", "b.png#tiles=6"], "videos": [], "id": 7}
  with files named from the folder of the rows, and writes for each, in their order, one line:
  {"row", "question", "id", "answer", "token_ids", …} or {"row", "question", "id", "error"}.
  With --out a run that was interrupted goes on where it ended.

Ctrl-C stops the answer; what there is of it stands, in --json as a turn that ends "stopped".
exit status: 0 answered, 2 bad input, 3 the engine failed, 130 stopped by Ctrl-C

examples:
  app.py ask "What is this?" --image a.png
  app.py ask "Compare them." --image a.png --image b.png#tiles=6 --then "Which is brighter?"
  app.py ask "What moves where?" --video clip.mp4#frames=16,to=4 --json
  app.py ask --batch rows.jsonl --out answers.jsonl
"""


@dataclass(frozen=True, slots=True)
class Serve:
    """Serve the page."""

    settings: Settings
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """Answer in the terminal. `turns` name files that nobody has looked at yet."""

    settings: Settings
    turns: tuple[Turn, ...]
    system: str | None = None
    sampling: Sampling = GREEDY
    as_json: bool = False
    dry_run: bool = False
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Answer the rows of a file, into another one or to stdout."""

    settings: Settings
    rows: Path
    out: Path | None = None
    at_once: int | None = None  # rows; None: as many as the engine answers at the same time
    system: str | None = None
    sampling: Sampling = GREEDY
    verbose: bool = False


Command = Serve | Ask | Batch | MakePlan


def read_command(words: Sequence[str]) -> Command:
    """What the person wants.

    Raises `BadInput` for a value that makes no sense; exits with status 2 and one line for words
    that are no command.
    """
    command = COMMANDS.get(words[0]) if words else None
    return command(words[1:]) if command else read_serve(words)


def read_serve(words: Sequence[str]) -> Serve:
    """`app.py [--host H] [--port N] …`."""
    parser = Parser("app.py", SERVE_DESCRIPTION, SERVE_EPILOG)
    page = options(parser, "page")
    page.value("--host", DEFAULTS.host, "address to listen on; 0.0.0.0 lets other machines in")
    page.value("--port", DEFAULTS.port, "port to listen on; 0 takes a free one")
    page.maybe("--root-path", str, ROOT_PATH_HELP)
    page.group.add_argument("--pick", action=BooleanOptionalAction, help=PICK_HELP)
    page.value("--max-queue", DEFAULTS.max_queue, MAX_QUEUE_HELP)
    page.value("--frames", DEFAULTS.frames, "frames of a video unless chosen on the page")
    add_door_options(parser)
    add_engine_options(parser)
    add_model_options(parser)
    add_loading_options(parser)
    chosen = parser.parse_args(words)
    return Serve(with_own_keys(read_settings(chosen)), chosen.verbose)


def read_ask(words: Sequence[str]) -> Ask | Batch:
    """`app.py ask QUESTION [--image F]… [--then QUESTION]… …` or `app.py ask --batch ROWS …`."""
    parser = _ask_parser()
    chosen = parser.parse_args(words)
    settings, system, sampling = read_settings(chosen), chosen.system, _sampling(chosen)
    if chosen.batch:
        told = [getattr(chosen, name) for name in OF_A_CONVERSATION]
        if any(value is not None and value is not False for value in told):
            parser.error("--batch takes questions, files and their choices from its rows")
        check_range("number of rows at once", chosen.rows, 1, MOST_ROWS)
        settings = replace(settings, max_queue=8 * MOST_ROWS, side_by_side=True)
        where = chosen.batch, chosen.out, chosen.rows
        return Batch(settings, *where, system, sampling, chosen.verbose)
    if chosen.question is None:
        parser.error("the following arguments are required: QUESTION or --batch")
    if chosen.out or chosen.rows:
        parser.error("--out and --rows are for --batch")
    turns = _turns(chosen)
    return Ask(settings, turns, system, sampling, chosen.json, chosen.dry_run, chosen.verbose)


COMMANDS: Mapping[str, Callable[[Sequence[str]], Command]] = {
    "ask": read_ask,
    "plan": read_plan,
}


def _ask_parser() -> Parser:
    parser = Parser("app.py ask", ASK_DESCRIPTION, ASK_EPILOG)
    parser.add_argument("question", metavar="QUESTION", nargs="?", type=_question)
    _add_conversation_options(parser)
    _add_sampling_options(parser)
    add_engine_options(parser)
    add_model_options(parser)
    add_loading_options(parser)
    output = options(parser, "output")
    output.switch("--json", "print one object at the end instead of the text as it comes")
    output.switch("--dry-run", "show what the model would read; loads no weights")
    output.maybe("--batch", Path, "file of questions, one JSON object a line (see below)")
    output.maybe("--rows", int, "rows of --batch asked at once (default: what the engine can)")
    output.maybe("--out", Path, "file that answers of --batch are added to (default: stdout)")
    return parser


def _add_conversation_options(parser: Parser) -> None:
    asked = options(parser, "conversation")
    for flag, kind, metavar, explanation in (
        ("--image", partial(read_file_word, kind=Kind.IMAGE), "F", "a picture; may be repeated"),
        ("--video", partial(read_file_word, kind=Kind.VIDEO), "F", "a video; may be repeated"),
        ("--then", _question, "QUESTION", "a further question; may be repeated"),
    ):
        # One list for all three keeps the order in which they were named.
        asked.group.add_argument(
            flag, dest="steps", action="append", type=kind, metavar=metavar, help=explanation
        )
    asked.maybe("--system", str, "system prompt instead of the checkpoint's")
    asked.switch("--combined", "show the pictures of a question as one instead of numbering them")
    asked.maybe("--max-tiles", int, "tiles of a picture at most (default: the checkpoint's)")
    asked.maybe("--frames", int, f"frames of a video (default {DEFAULTS.frames})")
    asked.maybe("--from", float, "second of a video to begin at", dest="start_s")
    asked.maybe("--to", float, "second of a video to end at", dest="end_s")


def _add_sampling_options(parser: Parser) -> None:
    sampling = options(parser, "sampling")
    sampling.value("--max-new-tokens", GREEDY.max_new_tokens, "length of an answer at most")
    sampling.value("--temperature", GREEDY.temperature, "0 always takes the likeliest token, to 2")
    sampling.value("--top-p", GREEDY.top_p, "choose among the likeliest that sum up to this")
    sampling.value("--top-k", GREEDY.top_k, "choose among this many; 0 among all")
    sampling.value("--repetition-penalty", GREEDY.repetition_penalty, "above 1 repeats less")
    sampling.maybe("--seed", int, "makes a temperature above 0 repeatable")


def _sampling(chosen: argparse.Namespace) -> Sampling:
    return Sampling(
        temperature=chosen.temperature,
        top_p=chosen.top_p,
        top_k=chosen.top_k,
        repetition_penalty=chosen.repetition_penalty,
        max_new_tokens=chosen.max_new_tokens,
        seed=chosen.seed,
    )


def _question(words: str) -> str:
    if not words.strip():
        raise BadQuestion("The question is empty.", "Ask something.")
    return words


def _turns(chosen: argparse.Namespace) -> tuple[Turn, ...]:
    check_range("number of tiles", chosen.max_tiles, 1, MOST_TILES)
    check_range("number of frames", chosen.frames, 1, MOST_FRAMES)
    turns: tuple[Turn, ...] = (Turn(chosen.question, combined=chosen.combined),)
    steps: list[Attachment | str] = chosen.steps or []
    for step in steps:
        if isinstance(step, str):
            turns = (*turns, Turn(step, combined=chosen.combined))
            continue
        file = with_defaults(step, chosen.max_tiles, chosen.frames, chosen.start_s, chosen.end_s)
        turns = (*turns[:-1], replace(turns[-1], attachments=(*turns[-1].attachments, file)))
    kinds = {file.kind for turn in turns for file in turn.attachments}
    if Kind.VIDEO not in kinds and (chosen.start_s is not None or chosen.end_s is not None):
        raise BadSetting("--from and --to are of a video, and there is none.", "Name a --video.")
    return turns
