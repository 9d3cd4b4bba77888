"""The page with an engine that follows a script: `python -m tests.serve_fake [port]`.

For working on the page without a model: every answer is a page of Markdown, a question with
"fail" in it fails after some words, and "wait" makes it wait before the first.
"""

import sys
from pathlib import Path

from backend.conversation import Request
from backend.errors import OutOfMemory
from backend.prompt.compose import open_composer
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.fakes import FakeEngine
from ui import build_page, launch_options

ROOT = Path(__file__).parent.parent
ANSWER = """The first picture shows **three shapes**: a red circle, a blue square and a triangle.

1. The circle is the largest.
2. The square touches the left border.

| shape | colour |
|---|---|
| circle | red |
| square | blue |

Its area is $\\pi r^2$, in code:

```python
def area(radius: float) -> float:
    return 3.14159 * radius**2
```
The <ref>red circle</ref><box>[[120, 80, 480, 460]]</box> stands out.
"""


class ChattyEngine(FakeEngine):
    """Has something to say to every question."""

    def stream(self, request: Request) -> AnswerStream:
        question = request.conversation.turns[-1].question
        words = [step for word in ANSWER.split(" ") for step in (word + " ", 0.06)]
        if "wait" in question:
            words.insert(0, 5.0)
        if "fail" in question:
            words[20:] = [OutOfMemory("The device has no room for 26 tiles.", "Use 6 tiles.")]
        self.enqueue(words)
        return super().stream(request)


def main() -> None:
    settings = Settings(port=int(sys.argv[1]) if len(sys.argv) > 1 else 7861)
    composer = open_composer(ROOT / "assets" / "checkpoint", settings, "bundled")
    page = build_page(ChattyEngine("InternVL3 bundled"), lambda: composer, settings)
    page.launch(**launch_options(settings))


if __name__ == "__main__":
    main()
