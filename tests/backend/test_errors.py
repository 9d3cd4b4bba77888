"""Every error is a whole sentence for a person, and the drawn tree is the real one."""

import pickle
import re

from backend import errors
from backend.errors import BadFile, EngineError, TooLong


def test_an_error_says_what_happened_and_what_to_do() -> None:
    error = BadFile("cat.png", "it is empty.", "Upload it again.")
    assert str(error) == "cat.png: it is empty. Upload it again."
    assert (error.name, error.advice) == ("cat.png", "Upload it again.")


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BadFile("cat.png", "it is empty.", "Upload it again.")))
    assert str(error) == "cat.png: it is empty. Upload it again."
    assert str(pickle.loads(pickle.dumps(TooLong("Too long.", "Shorten it.")))) == (
        "Too long. Shorten it."
    )


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn: list[tuple[str, str]] = []
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^(    [│├└─ ]*)([A-Z]\w+)(  |$)", line)
        if match:
            depth = len(match[1])
            above[depth] = match[2]
            parents = [name for other, name in sorted(above.items()) if other < depth]
            drawn.append((match[2], parents[-1] if parents else "Exception"))
            above = {other: name for other, name in above.items() if other <= depth}
    real = [
        (name, kind.__bases__[0].__name__)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, EngineError)
    ]
    assert sorted(drawn) == sorted(real)
