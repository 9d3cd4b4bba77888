"""Requests of any kind: mostly well formed, each part sometimes something else entirely."""

import json
from typing import Any

from hypothesis import strategies as st

from tests.door.conftest import as_url, picture

URLS = (
    as_url(picture()),
    as_url(picture("blue", "JPEG"), "image/jpeg"),
    as_url(picture("green", "WEBP"), "image/png"),
    as_url(picture("black", size=(200, 30))),
    as_url(picture()[:200]),
    as_url(b"no picture"),
    "data:image/png;base64,",
    "data:,",
    "http://127.0.0.1/a.png",
    "file:///etc/passwd",
    "",
)
ODDS = 48  # one value in so many is junk

words = st.text(max_size=12) | st.sampled_from(
    ["", " ", "<|im_end|>", "<img><IMG_CONTEXT></img>", "\x00", "Image-1: <image>", "é" * 200]
)
stops = st.text(min_size=1, max_size=3)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)


def mostly(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One of `values`, or now and then anything."""
    return st.integers(1, ODDS).flatmap(lambda odds: junk if odds == ODDS else values)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these fields."""
    optional = {name: mostly(values) for name, values in fields.items()}
    return st.fixed_dictionaries({}, optional=optional)


def parts() -> st.SearchStrategy[Any]:
    choices = {
        "detail": mostly(st.sampled_from(["low", "medium", "high", "auto"])),
        "max_dynamic_patch": mostly(st.integers(1, 40)),
    }
    address = st.fixed_dictionaries(
        {"url": mostly(st.sampled_from((*URLS[:4] * 6, *URLS[4:])))}, optional=choices
    )
    plain = st.fixed_dictionaries({"type": st.just("text"), "text": mostly(words)})
    shown = st.fixed_dictionaries({"type": st.just("image_url"), "image_url": mostly(address)})
    film = st.fixed_dictionaries({"type": st.just("video_url"), "video_url": mostly(address)})
    return st.lists(mostly(st.one_of(plain, plain, shown, film)), max_size=3)


def messages() -> st.SearchStrategy[Any]:
    content = mostly(st.one_of(words, parts()))

    def message(role: str) -> st.SearchStrategy[Any]:
        return mostly(st.fixed_dictionaries({"role": mostly(st.just(role)), "content": content}))

    turn = st.tuples(message("user"), message("assistant"))
    system = st.lists(message("system"), max_size=1)
    return st.tuples(system, st.lists(turn, max_size=2), message("user")).map(
        lambda drawn: [*drawn[0], *(one for pair in drawn[1] for one in pair), drawn[2]]
    )


def requests(model: str, most_tokens: int = 2000) -> st.SearchStrategy[dict[str, Any]]:
    """Requests, of which about half are answered."""
    fields = some(
        stream=st.booleans(),
        n=st.integers(1, 2) | st.none(),
        temperature=st.floats(0, 2) | st.integers(0, 2),
        top_p=st.floats(0.01, 1),
        top_k=st.integers(-1, 1000),
        repetition_penalty=st.floats(0.5, 2),
        seed=st.integers(),
        stop=stops | st.lists(stops, max_size=5) | st.none(),
        max_completion_tokens=st.integers(1, most_tokens),
        user=words,
        tools=st.just([]),
        logprobs=st.just(False),
    )
    base = st.fixed_dictionaries(
        {
            "model": mostly(st.just(model)),
            "messages": mostly(messages()),
            "max_tokens": mostly(st.integers(1, most_tokens)),
        }
    )
    return st.tuples(base, fields, st.dictionaries(words, junk, max_size=1)).flatmap(
        lambda drawn: st.integers(1, ODDS).map(
            lambda odds: drawn[0] | drawn[1] | (drawn[2] if odds > ODDS - 3 else {})
        )
    )


def bodies(model: str, most_tokens: int = 2000) -> st.SearchStrategy[bytes]:
    """Requests as they travel, sometimes cut short or made of anything."""
    whole = requests(model, most_tokens).map(lambda asked: json.dumps(asked).encode())
    cut = st.tuples(whole, st.integers(0, 400)).map(lambda drawn: drawn[0][: drawn[1]])
    return st.integers(1, ODDS).flatmap(
        lambda odds: st.one_of(cut, st.binary(max_size=40)) if odds == ODDS else whole
    )
