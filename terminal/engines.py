"""Options of engines elsewhere: their addresses, a list of them, and the file of their key."""

from terminal.parser import Parser, options

ENGINE_HELP = """\
address of an engine that answers instead, as http://host:23333/v1: LMDeploy, vLLM, SGLang,
llama.cpp, transformers serve or another with OpenAI's API; may be repeated, conversations then
stay each with one; --model names its checkpoint where the engine's own name for it does not"""

KEY_HELP = """\
file of which the first line is the key they want; a page that has none of them takes it as
--door-key-file"""


def add_engine_options(parser: Parser) -> None:
    """`--engine`, `--engines-file` and `--api-key-file`."""
    engines = options(parser, "engines elsewhere")
    engines.group.add_argument(
        "--engine", dest="engines", action="append", metavar="URL", help=ENGINE_HELP
    )
    engines.maybe("--engines-file", str, "file with an address a line, read again when it changes")
    engines.maybe("--api-key-file", str, KEY_HELP)
