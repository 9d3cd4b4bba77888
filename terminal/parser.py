"""How this project's command lines are parsed: refusals in one line, defaults shown in the help.

Knows no command; `terminal.arguments` and its neighbours describe theirs with it.
"""

import argparse
from dataclasses import dataclass, fields
from typing import NoReturn

from backend.settings import (
    ATTENTIONS,
    AUTO,
    BATCHINGS,
    BUNDLED,
    COMPILINGS,
    DECODERS,
    DTYPES,
    QUANTIZATIONS,
    STRATEGIES,
    TILINGS,
    Settings,
)

DEFAULTS = Settings()
DTYPE_HELP = """\
of what is not quantised; auto takes bfloat16 on a GPU that computes in it and float16 on others
(half the bytes), on the processor float32, which was quickest there, or the files' own dtype where
float32 would fill more than half of the free memory (default auto)"""
ATTENTION_HELP = """\
auto takes flash attention where it is installed, on an NVIDIA GPU in half precision, and sdpa
elsewhere; eager is for comparisons, its memory is not foreseen (default auto)"""
BATCHING_HELP = """\
whether several questions are answered at the same time; auto does so where the model lies on one
device, unquantised, with room for several, and while more than one person asks; on always does,
and refuses to start where it cannot (default auto)"""
COMPILE_HELP = """\
whether the steps of answers given one at a time are compiled, which takes minutes before the model
is ready; auto does so on an NVIDIA GPU of its own, unquantised, with --batching off; on does it on
the processor too, and refuses to start where it cannot (default auto)"""
TILING_HELP = """\
exact cuts pictures into the pixels of the model card; fast shrinks a large one while it is decoded:
values differ by 5 of 255 at most in photographs, by 67 in small print (default exact)"""
QUANTIZE_HELP = """\
store decoder layers in 8 or 4 bits with bitsandbytes, on NVIDIA GPUs and the processor: less
memory, no more speed"""

CACHE_HELP = """\
what was read and seen is kept for later questions up to so many GB, and yields when a question
needs the room; 0 keeps nothing (default: a share of what is free beside the model)"""
HOST_CACHE_HELP = """\
what was read and must leave an NVIDIA GPU is kept in the host's memory up to so many GB, and comes
back when a conversation goes on"""


class Parser(argparse.ArgumentParser):
    """A parser whose every refusal is one line and exit status 2; options are not abbreviated."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """End with the message, whatever line breaks its words had."""
        self.exit(2, f"{' '.join(message.split())} (see {self.prog} --help)\n")


@dataclass(frozen=True, slots=True)
class Options:
    """A titled group of options under one roof of the help."""

    group: argparse._ArgumentGroup

    def value(self, flag: str, default: str | int | float, explanation: str) -> None:
        """An option that always has a value, of its default's type; the help names the default."""
        self.group.add_argument(
            flag,
            type=type(default),
            default=default,
            metavar=_metavar(default),
            help=f"{explanation} (default %(default)s)",
        )

    def maybe(self, flag: str, kind: type, explanation: str, dest: str | None = None) -> None:
        """An option that may be left out, and is `None` then."""
        name = dest or flag.lstrip("-").replace("-", "_")
        self.group.add_argument(
            flag, type=kind, dest=name, metavar=_metavar(kind()), help=explanation
        )

    def switch(self, flag: str, explanation: str, dest: str | None = None) -> None:
        """An option without a value."""
        name = dest or flag.lstrip("-").replace("-", "_")
        self.group.add_argument(flag, dest=name, action="store_true", help=explanation)


def options(parser: Parser, title: str) -> Options:
    """A new group of options."""
    return Options(parser.add_argument_group(title))


def add_model_options(parser: Parser) -> None:
    """`--model`, how files are read for it, and `--verbose` for when it fails."""
    model = options(parser, "model")
    model.value(
        "--model",
        DEFAULTS.model,
        f"a size as 2B (9B is experimental), a hub id, a folder, {BUNDLED} for the small one that "
        f"comes along, or {AUTO} for the largest that fits this machine",
    )
    model.group.add_argument(
        "--decoder",
        choices=DECODERS,
        default=DEFAULTS.decoder,
        help="what decodes videos; decord is the model card's own (default %(default)s)",
    )
    model.group.add_argument("--tiling", choices=TILINGS, default=DEFAULTS.tiling, help=TILING_HELP)
    model.switch("--verbose", "write the log to stderr, with the causes of faults")


def add_loading_options(parser: Parser) -> None:
    """How the model is loaded; their names are those of `Settings`, as `read_settings` wants."""
    loading = options(parser, "loading")
    add = loading.group.add_argument
    add("--dtype", choices=DTYPES, default=DEFAULTS.dtype, help=DTYPE_HELP)
    add("--quantize", choices=QUANTIZATIONS, help=QUANTIZE_HELP)
    add("--attention", choices=ATTENTIONS, default=DEFAULTS.attention, help=ATTENTION_HELP)
    add("--batching", choices=BATCHINGS, default=DEFAULTS.batching, help=BATCHING_HELP)
    add("--compile", choices=COMPILINGS, default=DEFAULTS.compile, help=COMPILE_HELP)
    loading.maybe("--cache-gb", float, CACHE_HELP)
    loading.value("--host-cache-gb", DEFAULTS.host_cache_gb, HOST_CACHE_HELP)
    loading.maybe("--context", int, "tokens at most, prompt and answer (default: the checkpoint's)")
    add(
        "--strategy",
        choices=STRATEGIES,
        default=DEFAULTS.strategy,
        help="how several GPUs share the model, see app.py plan --help (default %(default)s)",
    )
    loading.switch("--offload", "let what does not fit lie off the GPU or on the disk: slow")
    loading.maybe("--adapter", str, "folder of a LoRA adapter made for this model (peft, ms-swift)")
    loading.maybe("--revision", str, "branch, tag or commit of a hub repository")


def read_settings(chosen: argparse.Namespace) -> Settings:
    """The settings that `chosen` tells, the defaults of others; what else it holds is not ours."""
    told = {field.name: getattr(chosen, field.name, None) for field in fields(Settings)}
    told["engines"] = tuple(told["engines"] or ())
    return Settings(**{name: value for name, value in told.items() if value is not None})


def _metavar(example: object) -> str:
    return {int: "N", float: "X"}.get(type(example), "S")
