"""The stream: text, the end and errors reach one reader; anybody may close it."""

import threading
import time

import pytest

from backend.conversation import Conversation, End, Request
from backend.engine import Progress, Stage
from backend.errors import EngineFailed, ModelChanged
from backend.stream import PACE_S, AnswerStream

WAIT_S = 20


class Clock:
    """Shows the time that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream(clock: Clock) -> AnswerStream:
    return AnswerStream(Request(Conversation()), clock)


def test_text_comes_in_order_and_ends(stream: AnswerStream) -> None:
    stream.begin(10, 4)
    for number, piece in enumerate(("a", "", "b", "c")):
        stream.write(piece, [number])
    stream.finish()
    assert "".join(stream) == "abc"
    assert stream.token_ids == (0, 1, 2, 3)
    assert stream.progress == Progress(Stage.ENDED)


def test_take_gives_all_text_since_the_last_call(stream: AnswerStream) -> None:
    assert stream.take(0) == ""
    stream.write("a")
    stream.write("b")
    assert stream.take(0) == "ab"
    assert stream.take(0) == ""
    stream.write("c")
    stream.finish()
    assert [stream.take(0), stream.take(0), stream.take(0)] == ["c", None, None]


def test_a_reader_is_woken_by_text_the_end_an_error_and_closing() -> None:
    for wake, told in (
        (lambda s: s.write("text", [1]), "text"),
        (lambda s: s.finish(), None),
        (lambda s: s.finish(error=EngineFailed("It broke.", "")), "It broke."),
        (lambda s: s.close(), None),
    ):
        stream = AnswerStream(Request(Conversation()))
        got: list[str | None] = []
        reader = threading.Thread(target=lambda s=stream, g=got: g.append(read_once(s)))
        reader.start()
        wake(stream)
        reader.join(WAIT_S)
        assert got == [told]


def read_once(stream: AnswerStream) -> str | None:
    try:
        return stream.take(WAIT_S)
    except EngineFailed as error:
        return error.cause


def test_text_before_an_error_is_not_lost(stream: AnswerStream) -> None:
    stream.write("half", [1])
    stream.finish(error=EngineFailed("It broke.", "Ask again."))
    assert stream.take(0) == "half"
    for _ in range(2):
        with pytest.raises(EngineFailed, match="It broke"):
            stream.take(0)


def test_closing_keeps_the_text_so_far_and_drops_what_comes_later(stream: AnswerStream) -> None:
    stream.begin(10, 0)
    stream.write("kept", [1])
    stream.close()
    stream.write("dropped", [2])
    stream.finish(error=EngineFailed("Too late.", ""))
    stream.advance(Progress(Stage.WAITING, 3))
    assert stream.closed
    assert list(stream) == ["kept"]
    assert stream.token_ids == (1,)
    assert stream.progress == Progress(Stage.ENDED)
    assert stream.statistics is not None and stream.statistics.end is End.STOPPED


def test_closing_after_the_end_changes_nothing(stream: AnswerStream) -> None:
    stream.begin(10, 0)
    stream.write("all", [1])
    stream.finish(End.LENGTH)
    stream.close()
    stream.close()
    assert not stream.closed
    assert stream.statistics is not None and stream.statistics.end is End.LENGTH


def test_those_who_asked_are_told_once_that_it_was_closed(stream: AnswerStream) -> None:
    told: list[str] = []
    stream.call_on_close(lambda: told.append("early"))
    stream.close()
    stream.close()
    stream.call_on_close(lambda: told.append("late"))
    assert told == ["early", "late"]


def test_an_answer_that_ended_by_itself_tells_nobody_that_it_was_closed(
    stream: AnswerStream,
) -> None:
    told: list[str] = []
    stream.call_on_close(lambda: told.append("closed"))
    stream.finish()
    stream.close()
    assert told == []


def test_statistics_count_from_the_asking(stream: AnswerStream, clock: Clock) -> None:
    assert stream.statistics is None
    stream.begin(prompt_tokens=60, visual_tokens=16)
    for second, token in ((102.0, 7), (103.0, 8), (104.0, 9)):
        clock.now = second
        stream.write("x", [token])
    assert stream.statistics is None
    stream.finish(End.LENGTH)
    told = stream.statistics
    assert told is not None
    assert (told.prompt_tokens, told.visual_tokens, told.new_tokens) == (60, 16, 3)
    assert (told.ttft_s, told.tokens_per_s, told.end) == (2.0, 1.0, End.LENGTH)


def test_a_request_that_never_began_has_no_statistics(stream: AnswerStream) -> None:
    stream.close()
    assert stream.statistics is None


def test_stages_follow_the_engine(stream: AnswerStream) -> None:
    assert stream.progress.stage is Stage.PREPARING
    stream.advance(Progress(Stage.WAITING, ahead=2))
    assert stream.progress.ahead == 2
    stream.begin(1, 0)
    assert stream.progress.stage is Stage.READING
    stream.write("", [1])
    assert stream.progress.stage is Stage.WRITING


def test_closing_from_many_threads_while_text_comes_loses_no_reader() -> None:
    for _ in range(200):
        stream = AnswerStream(Request(Conversation()))
        writer = threading.Thread(target=lambda s=stream: [s.write("x", [1]) for _ in range(50)])
        closers = [threading.Thread(target=stream.close) for _ in range(3)]
        for thread in (writer, *closers):
            thread.start()
        text = "".join(stream)
        for thread in (writer, *closers):
            thread.join(WAIT_S)
        assert len(stream.token_ids) == len(text)


def test_text_without_a_token_of_its_own_changes_no_count(
    stream: AnswerStream, clock: Clock
) -> None:
    """As what was held back of an unfinished character or a stop text, at the end."""
    stream.begin(10, 4)
    clock.now += 1
    stream.write("early")
    assert stream.progress == Progress(Stage.READING)
    for token in (7, 8):
        clock.now += 1
        stream.write("x", [token])
    clock.now += 6
    stream.write("late")
    stream.finish()
    told = stream.statistics
    assert told is not None
    assert (told.new_tokens, told.ttft_s, told.tokens_per_s) == (2, 2, 1)


def test_tokens_without_ids_are_counted_and_corrected_at_the_end(
    stream: AnswerStream, clock: Clock
) -> None:
    stream.begin(10, 4)
    for _ in range(3):
        clock.now += 1
        stream.write("word ", tokens=1)
    stream.correct(prompt_tokens=12, cached_tokens=8, new_tokens=5)
    stream.finish()
    stream.correct(prompt_tokens=0, cached_tokens=0, new_tokens=0)
    told = stream.statistics
    assert told is not None and stream.token_ids == ()
    assert (told.prompt_tokens, told.cached_tokens, told.new_tokens) == (12, 8, 5)
    assert (told.ttft_s, told.tokens_per_s) == (1, 2)


def test_a_reason_for_closing_is_told_after_the_text_so_far(stream: AnswerStream) -> None:
    left: list[str] = []
    stream.call_on_close(lambda: left.append("line"))
    stream.begin(10, 4)
    stream.write("some", [1])
    stream.close(ModelChanged("The model was changed to 2B.", ""))
    stream.write("never", [2])
    stream.close()
    assert stream.closed and left == ["line"]
    assert stream.take(0) == "some"
    with pytest.raises(ModelChanged, match="changed to 2B"):
        stream.take(0)
    assert stream.token_ids == (1,)
    assert stream.statistics is not None and stream.statistics.end is End.BROKEN_OFF


def test_a_reason_comes_too_late_for_an_answer_that_ended(stream: AnswerStream) -> None:
    stream.finish()
    stream.close(ModelChanged("The model was changed to 2B.", ""))
    assert stream.take(0) is None


def test_who_cannot_wait_is_told_of_every_piece_and_of_the_end(stream: AnswerStream) -> None:
    taken: list[str | None] = []
    stream.write("early ", [1])
    stream.call_on_news(lambda: taken.append(stream.take(0)))
    stream.begin(5, 0)
    stream.write("", [2])
    stream.write("late", [3])
    stream.finish()
    stream.close()
    assert taken == ["early ", "late", None]


def test_closing_is_news_too(stream: AnswerStream) -> None:
    told: list[str] = []
    stream.call_on_news(lambda: told.append("closed"))
    stream.close()
    assert told == ["closed"]


def test_pieces_that_pile_up_are_news_once(stream: AnswerStream) -> None:
    told: list[str] = []
    stream.call_on_news(lambda: told.append("news"))
    stream.write("a", [1])
    stream.write("b", [2])
    assert told == ["news"]
    assert stream.take(0) == "ab"
    stream.write("c", [3])
    assert told == ["news", "news"]


def test_a_waiting_reader_gets_the_first_text_at_once_and_then_what_gathered(
    stream: AnswerStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.stream.PACE_S", WAIT_S)
    taken: list[str] = []
    reader = threading.Thread(target=lambda: taken.extend(stream))
    stream.write("first", [1])
    reader.start()
    while not taken:
        reader.join(0.001)
    for letter in "then":
        stream.write(letter, [2])
        reader.join(0.01)
    assert taken == ["first"]
    stream.finish()
    reader.join(WAIT_S / 4)
    assert taken == ["first", "then"]


def test_letting_text_gather_takes_no_longer_than_the_reader_would_wait(
    stream: AnswerStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.stream.PACE_S", WAIT_S)
    stream.write("a", [1])
    assert stream.take(None) == "a"
    begun = time.monotonic()
    assert stream.take(0.02) == ""
    stream.write("b", [2])
    assert (stream.take(0.02), stream.take(0)) == ("b", "")
    assert time.monotonic() - begun < WAIT_S / 2


def test_a_reader_who_would_wait_longer_is_held_back_no_longer_than_the_pace(
    stream: AnswerStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(stream._over, "wait", rests.append)
    stream.write("a", [1])
    assert stream.take(WAIT_S) == "a"
    stream.write("b", [2])
    assert stream.take(WAIT_S) == "b"
    assert all(0 < rest <= PACE_S for rest in rests)
