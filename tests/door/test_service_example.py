"""The model card's Service example against the app with the bundled checkpoint, as it stands.

Only two things of it are others': where the server is, and what the internet gives for the
picture's address, since tests ask nobody.
"""

import contextlib
import io
import re
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.door.conftest import Served, as_url, picture, said, shown, words
from tests.door.real import bundled

__all__ = ["bundled"]
CARD = """
from openai import OpenAI
client = OpenAI(api_key='YOUR_API_KEY', base_url='http://0.0.0.0:23333/v1')
model_name = client.models.list().data[0].id
response = client.chat.completions.create(
    model=model_name,
    messages=[{
        'role':
        'user',
        'content': [{
            'type': 'text',
            'text': 'describe this image',
        }, {
            'type': 'image_url',
            'image_url': {
                'url':
                'https://modelscope.oss-cn-beijing.aliyuncs.com/resource/tiger.jpeg',
            },
        }],
    }],
    temperature=0.8,
    top_p=0.8)
print(response)
"""


def run(code: str, served: Served) -> dict[str, object]:
    """The variables after the code, which talks to `served` instead of the card's server."""
    names: dict[str, object] = {}
    exec(code.replace("http://0.0.0.0:23333", served.url), names)  # noqa: S102
    names["client"].close()
    return names


def test_the_example_runs_unchanged(bundled: Served) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        names = run(CARD, bundled)
    assert "red" in names["response"].choices[0].message.content
    assert names["response"].usage.prompt_tokens_details.image_tokens == 16
    assert out.getvalue().startswith("ChatCompletion(id='chatcmpl-")


def test_it_streams_too(bundled: Served) -> None:
    code = CARD.replace("top_p=0.8)", "top_p=0.8, stream=True)").replace("print(response)", "")
    names = run(code + "texts = [c.choices[0].delta.content for c in response]", bundled)
    pieces = [text for text in names["texts"] if text]
    assert len(pieces) > 5 and "red" in "".join(pieces)


def test_streamed_and_whole_answers_are_the_same_words(bundled: Served) -> None:
    messages = said([words("What colour is the circle?"), shown(as_url(picture("blue")))])
    asked = {"model": "bundled", "messages": messages, "max_tokens": 30}
    whole = bundled.client.chat.completions.create(**asked).choices[0].message.content
    stream = bundled.client.chat.completions.create(**asked, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream) == whole
    assert "blue" in whole


def test_a_conversation_goes_on_over_pictures_and_reads_them_once(bundled: Served) -> None:
    first = [words("What is here?"), shown(as_url(picture("red"))), shown(as_url(picture("blue")))]
    create = bundled.client.chat.completions.create
    answer = create(model="bundled", messages=said(first))
    words_of_it = answer.choices[0].message.content
    again = create(model="bundled", messages=said(first, words_of_it, "Are you sure?"))
    assert again.choices[0].message.content
    assert again.usage.prompt_tokens > answer.usage.prompt_tokens
    assert again.usage.prompt_tokens_details.image_tokens == 32
    # Whole blocks of what was read are kept, the pictures in any case.
    assert again.usage.prompt_tokens_details.cached_tokens >= 48


def test_stop_and_length_end_an_answer(bundled: Served) -> None:
    create = bundled.client.chat.completions.create
    asked = {"model": "bundled", "messages": said("Hello!")}
    whole = create(**asked).choices[0].message.content
    (stop,) = re.findall(r"\w+", whole)[2:3]
    cut = create(**asked, stop=[stop]).choices[0]
    assert (cut.message.content, cut.finish_reason) == (whole[: whole.index(stop)], "stop")
    short = create(**asked, max_tokens=2).choices[0]
    assert short.finish_reason == "length" and whole.startswith(short.message.content)


def test_a_seed_repeats_and_n_gives_several(bundled: Served) -> None:
    asked = {"model": "bundled", "messages": said("Tell me."), "temperature": 2, "seed": 4}
    create = bundled.client.chat.completions.create
    first, second = (
        [choice.message.content for choice in create(**asked, n=3, max_tokens=40).choices]
        for _ in range(2)
    )
    assert first == second and len(set(first)) > 1
    alone = create(**{**asked, "seed": 5}, max_tokens=40).choices[0].message.content
    assert alone == first[1]


def test_what_does_not_fit_is_refused_with_the_numbers(bundled: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="of 2,048 tokens") as caught:
        bundled.client.chat.completions.create(model="bundled", messages=said("long " * 3000))
    assert caught.value.code == "context_length_exceeded"


def test_a_broken_picture_is_named(bundled: Served) -> None:
    cut = as_url(picture(size=(400, 300))[:300])
    with pytest.raises(openai.BadRequestError) as caught:
        bundled.client.chat.completions.create(model="bundled", messages=said([shown(cut)]))
    assert caught.value.param == "messages[0].content[0]"


def test_sixteen_programs_at_once_get_the_answers_they_get_alone(bundled: Served) -> None:
    colours = ("red", "blue", "green", "black")
    messages = [said([words("What colour?"), shown(as_url(picture(name)))]) for name in colours]

    def ask(number: int) -> str:
        asked = {"model": "bundled", "messages": messages[number % 4], "max_tokens": 12}
        stream = bundled.client.chat.completions.create(**asked, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    alone = [ask(number) for number in range(4)]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, range(12)))
    assert together == alone * 3


def test_stop_texts_hold_for_each_of_several_at_once(bundled: Served) -> None:
    create = bundled.client.chat.completions.create
    asked = {"model": "bundled", "messages": said("What can you do?")}
    whole = create(**asked).choices[0].message.content
    stops = [whole[place : place + 3] for place in range(4, 28, 4)]
    with ThreadPoolExecutor(len(stops)) as pool:
        cut = list(pool.map(lambda stop: create(**asked, stop=stop).choices[0], stops))
    assert [one.message.content for one in cut] == [whole[: whole.find(stop)] for stop in stops]
    assert {one.finish_reason for one in cut} == {"stop"}
