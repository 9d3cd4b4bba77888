"""Command lines of the documents are those that there are: each goes through the real parser."""

import re
import shlex
from pathlib import Path

import pytest

from terminal.arguments import read_command

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# A line of a block, its remark left out; or words in backticks, which may go on in the next line.
COMMAND = re.compile(
    r"^python app\.py(?: .*?)?(?= +# |$)|(?<=`)python app\.py(?:\s[^`]*)?(?=`)", re.M
)


def commands_of(page: Path) -> list[str]:
    """Every `python app.py …` of a document."""
    return [" ".join(found.split()) for found in COMMAND.findall(page.read_text(encoding="utf-8"))]


COMMANDS = sorted({(page.name, line) for page in PAGES for line in commands_of(page)})


def test_no_command_is_overlooked() -> None:
    for page in PAGES:
        assert len(commands_of(page)) == page.read_text(encoding="utf-8").count("python app.py")
    names = {name for name, _ in COMMANDS}
    assert names >= {"README.md", "deploy.md", "engines.md", "loading.md"}


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_is_one_of_ours(page: str, line: str) -> None:
    words = shlex.split(line)[2:]
    if words[-1:] == ["--help"]:
        with pytest.raises(SystemExit) as ended:
            read_command(words)
        assert ended.value.code == 0
    else:
        read_command(words)
