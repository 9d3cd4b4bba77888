"""What the page says and draws: words, files, messages, boxes, settings, sessions."""

from dataclasses import replace

import pytest
from PIL import Image

from backend.conversation import (
    Answer,
    Attachment,
    Conversation,
    End,
    Kind,
    Request,
    Statistics,
    Turn,
)
from backend.engine import Stage, State, Status
from backend.errors import BadFile, BadSetting
from backend.prompt.budget import Budget
from tests.ui.conftest import ROOT, Desk, texts
from ui import words
from ui.box import BoxHandlers
from ui.boxes_overlay import draw_overlay, find_picture
from ui.cards import Card, Draft
from ui.examples import read_abilities, read_examples
from ui.lines import draw_line
from ui.messages import show, without_remote_pictures
from ui.panels import draw_budget, draw_model, draw_notice
from ui.sessions import Sessions, joined
from ui.tray import draw_tray
from ui.uploads import accept, choose, look_again

HOSTILE = "<img src=x onerror=alert(1)>.png"
READY = Status(State.READY, "fake", 1.0, device="cpu", precision="float32", attention="sdpa")
LOADING = Status(State.LOADING, "fake", 0.63)
BUDGET = Budget(text=41, visual=6912, limit=32_768, images=3, videos=0, tiles=27)
STATISTICS = Statistics(3_000, 2_560, 20, 0.42, 31.4, End.EOS)


# Words


@pytest.mark.parametrize(
    ("number", "said"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (22, "22nd")],
)
def test_ordinals(number, said):
    assert words.ordinal(number) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0:00.0"), (7.5, "0:07.5"), (61, "1:01.0"), (3723, "1:02:03.0"), (59.96, "1:00.0")],
)
def test_moments(seconds, said):
    assert words.moment(seconds) == said


def test_the_budget_line_counts_pictures_tiles_and_tokens():
    assert words.budget_line(BUDGET) == (
        "3 images · 27 tiles · 6,912 visual + 41 text tokens of 32,768"
    )


def test_too_much_is_red_and_says_the_remedy():
    excess = replace(BUDGET, visual=41_000, remedy="Use 6 tiles.")
    drawn = draw_budget(excess)
    assert "excess" in drawn and "Use 6 tiles." in drawn
    assert "excess" not in draw_budget(BUDGET)


def test_the_line_under_an_answer():
    assert words.statistics_line(STATISTICS) == (
        "2,560 visual + 440 text tokens · first word 0.42 s · 31 tokens/s · "
        "20 tokens written, finished"
    )


@pytest.mark.parametrize(
    ("stage", "ahead", "status", "said"),
    [
        (Stage.WAITING, 1, READY, "2nd in line"),
        (Stage.WAITING, 0, READY, "Next in line"),
        (Stage.PREPARING, 0, READY, "Opening the files"),
        (Stage.READING, 0, READY, "Reading 26 tiles"),
        (Stage.WRITING, 0, READY, ""),
        (Stage.WAITING, 0, LOADING, "Loading fake, 63 %"),
    ],
)
def test_progress_says_what_is_waited_for(stage, ahead, status, said):
    assert words.progress_line(stage, ahead, status, 26).startswith(said)


def test_a_line_breaks_between_its_facts_and_no_dot_begins_one():
    first, second = '<span class="fact">a b&nbsp;·</span>', '<span class="fact">1 &lt; 2</span>'
    assert draw_line("a b · 1 < 2") == f"{first} {second}"
    assert draw_line("alone") == '<span class="fact">alone</span>'
    assert draw_line("63 % of 4.2 GB") == '<span class="fact">63&nbsp;% of 4.2&nbsp;GB</span>'


def test_the_model_line_tells_device_precision_and_the_reason_of_a_failure():
    assert words.model_line(READY) == "ready · cpu · float32 · sdpa"
    assert draw_line(words.model_line(READY)) in draw_model(READY)
    assert "63&nbsp;%" in draw_model(LOADING)
    fetching = replace(LOADING, doing="downloading 2.6 of 4.2 GB")
    assert draw_line(words.model_line(fetching)) in draw_model(fetching)
    assert "63 %: downloading 2.6 of 4.2 GB — you can" in words.model_line(fetching)
    assert "no &lt;disk&gt;" in draw_model(replace(READY, state=State.FAILED, reason="no <disk>"))


def test_the_model_line_tells_why_a_precision_was_taken_once_it_is_ready():
    why = replace(READY, why="auto: <float32> is the quickest")
    assert "<span>auto: &lt;float32&gt; is the quickest</span>" in draw_model(why)
    assert "auto" not in draw_model(replace(why, state=State.LOADING))
    assert draw_model(READY).count("<span>") == 1


# Files


def test_a_hostile_file_name_is_shown_and_nothing_more():
    hostile = Attachment("/a", Kind.IMAGE, HOSTILE)
    film = replace(hostile, kind=Kind.VIDEO)
    card = Card(("/p.jpg",), times=(0.0,), tiles=1, size=(2, 2), grid=(1, 1))
    drafts = (Draft(1, HOSTILE, hostile), Draft(2, HOSTILE, film), Draft(3, HOSTILE, None, "<i>"))
    drawn = draw_tray(drafts, {hostile: card, film: card})
    history = show(Conversation((Turn("?", (hostile, film)),)), {hostile: card, film: card})
    for html in (drawn, *texts(history)):
        assert "<img src=x" not in html and "<i>" not in html
        assert "&lt;img src=x" in html


def test_dropped_files_become_attachments_or_refusals(composer, files):
    session = Sessions().of("one")
    accept(session, [str(files / "wide.png"), str(files / "words.png")], composer.media)
    good, bad = session.drafts
    assert good.attachment is not None and session.cards[good.attachment].tiles >= 1
    assert bad.attachment is None and "not an image" in bad.problem
    assert not bad.problem.startswith("words.png")


def test_files_dropped_before_the_checkpoint_is_known_are_looked_at_later(composer, files):
    session = Sessions().of("one")
    accept(session, [str(files / "wide.png")], None)
    assert words.PENDING in draw_tray(session.drafts, session.cards)
    assert look_again(session, composer.media)
    assert words.PENDING not in draw_tray(session.drafts, session.cards)
    assert not look_again(session, composer.media)


def test_a_file_that_proves_bad_later_is_refused_then(composer, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 60)
    session = Sessions().of("one")
    accept(session, [str(broken)], None)
    assert session.drafts[0].attachment is not None
    look_again(session, composer.media)
    assert session.drafts[0].attachment is None and session.drafts[0].problem


def test_the_box_holds_a_limited_number_of_files(composer, files):
    session = Sessions().of("one")
    accept(session, [str(files / "wide.png")] * 65, composer.media)
    assert [draft.attachment is None for draft in session.drafts[-2:]] == [False, True]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [("frames", "3", 3), ("start_s", "0.5", 0.5), ("end_s", "", None), ("max_tiles", "3", None)],
)
def test_choices_of_a_video(composer, files, field, value, expected):
    session = Sessions().of("one")
    accept(session, [str(files / "clip.mp4")], composer.media)
    choose(session, 1, field, value, composer.media)
    assert getattr(session.drafts[0].attachment, field) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", "0"),
        ("frames", "nan"),
        ("frames", "x"),
        ("frames", "1e999"),
        ("start_s", "-1"),
        ("start_s", "99"),
    ],
)
def test_a_wrong_choice_is_refused_and_changes_nothing(composer, files, field, value):
    session = Sessions().of("one")
    accept(session, [str(files / "clip.mp4")], composer.media)
    before = session.drafts
    with pytest.raises((BadSetting, BadFile)):
        choose(session, 1, field, value, composer.media)
    assert session.drafts == before


def test_a_forged_choice_reaches_no_other_field(composer, files):
    session = Sessions().of("one")
    accept(session, [str(files / "clip.mp4")], composer.media)
    before = session.drafts
    choose(session, 1, "path", "/etc/passwd", composer.media)
    choose(session, 7, "frames", "2", composer.media)
    assert session.drafts == before


# Messages


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("![a](https://x.invalid/a.png)", "\\![a](https://x.invalid/a.png)"),
        ("![a][b]", "\\![a][b]"),
        ('<img src="https://x.invalid">', '&lt;img src="https://x.invalid">'),
        ("<IMAGE>", "&lt;IMAGE>"),
        ("`![a](https://x.invalid)`", "`![a](https://x.invalid)`"),
        ("```\n<img src=x>\n```", "```\n<img src=x>\n```"),
        ("Hello! [link](https://x.invalid) 3 < 4", "Hello! [link](https://x.invalid) 3 < 4"),
        ("<ref>a</ref><box>[[1, 2, 3, 4]]</box>", "<ref>a</ref><box>[[1, 2, 3, 4]]</box>"),
    ],
)
def test_pictures_from_elsewhere_are_disarmed_and_all_else_stays(written, shown):
    assert without_remote_pictures(written) == shown


def test_a_notice_escapes_what_it_tells():
    assert "<b>" not in draw_notice("<b>", "<b>", "<b>").replace("<b>&lt;b&gt;</b>", "")


# Boxes


def boxed(files, *names: str, answer: str, question: str = "?") -> Conversation:
    pictures = tuple(Attachment(str(files / name), Kind.IMAGE, name) for name in names)
    return Conversation((Turn(question, pictures, answer=Answer(answer)),))


def test_boxes_are_drawn_where_they_are_and_listed_in_pixels(files):
    answer = "<ref>red dot</ref><box>[[62, 111, 343, 611]]</box>"
    overlay = draw_overlay(boxed(files, "wide.png", answer=answer))
    assert overlay.picture == "wide.png"
    assert overlay.legend == ("red dot · 19, 19 – 110, 110 px",)
    drawn = Image.open(overlay.path).convert("RGB")
    assert drawn.size == (320, 180)
    assert min(drawn.getpixel((200, 90))) > 240  # outside all is as it was
    red, green, blue = drawn.getpixel((60, 108))  # the lower edge
    assert red > 180 and green < 120 and blue < 120


def test_no_boxes_or_no_picture_draw_nothing(files):
    assert draw_overlay(boxed(files, "wide.png", answer="None.")) is None
    answer = "<ref>a</ref><box>[[1, 2, 3, 4]]</box>"
    assert draw_overlay(boxed(files, answer=answer)) is None


@pytest.mark.parametrize(
    ("answer", "question", "meant"),
    [
        ("x", "?", "tall.png"),
        ("In Image-1: x", "?", "wide.png"),
        ("x", "Where in Image-1?", "wide.png"),
        ("x", "Where in Image-9?", "tall.png"),
    ],
)
def test_the_picture_that_was_named_is_the_one_drawn_on(files, answer, question, meant):
    chat = boxed(files, "wide.png", "tall.png", answer=answer, question=question)
    assert find_picture(chat).name == meant


def test_a_picture_that_is_gone_costs_no_answer(desk: Desk, files, tmp_path):
    gone = tmp_path / "gone.png"
    gone.write_bytes((files / "wide.png").read_bytes())
    desk.drop(gone)
    desk.engine.enqueue(["<ref>a</ref><box>[[1, 2, 300, 400]]</box>"])
    desk.ask("?")
    gone.unlink()
    desk.follow()
    assert "<ref>a</ref>" in str(desk.settle()["history"])


# Budget and state of the model


def box_of(desk: Desk) -> BoxHandlers:
    return BoxHandlers(desk.engine, lambda: desk.composer, desk.sessions, lambda: "welcome")


def weigh(desk: Desk, typed: str) -> str:
    from tests.ui.conftest import panel

    return box_of(desk).weigh(typed, desk.browser(), *panel())


def test_the_budget_weighs_the_chat_with_what_stands_in_the_box(desk: Desk, files):
    assert draw_line(words.HINT) in weigh(desk, "")
    desk.drop(files / "wide.png")
    one = weigh(desk, "What is here?")
    assert "1 image" in one and "1 tile&nbsp;" in one
    desk.converse("What is here?")
    desk.drop(files / "tall.png")
    assert "2 images&nbsp;·" in weigh(desk, "And here?")


def test_files_in_the_box_are_got_ready_as_they_would_be_sent(desk: Desk, files):
    from tests.ui.conftest import panel

    def expected() -> list[tuple[str, int | None]]:
        box_of(desk).weigh("", desk.browser(), *panel(max_tiles=3))
        (told,) = desk.engine.expected.values()
        return [(file.name, file.max_tiles) for file in told]

    assert expected() == []
    for name in ("wide.png", "tall.png"):
        desk.drop(files / name)
    assert expected() == [("wide.png", 3), ("tall.png", 3)]
    desk.session().remove(desk.session().drafts[0].key)
    assert expected() == [("tall.png", 3)]
    desk.converse("What is here?")
    assert expected() == []  # what was sent is the engine's already


def test_the_budget_tells_when_it_is_too_much(desk: Desk):
    assert "excess" in weigh(desk, "word " * 5000)


def test_the_model_s_line_is_sent_when_it_changed(desk: Desk):
    import gradio as gr

    box = box_of(desk)
    first = box.look(desk.browser())
    assert "ready" in first[0] and first[2] == "welcome"
    assert box.look(desk.browser())[:3] == [gr.skip()] * 3
    desk.engine.become(State.LOADING, 0.5)
    assert "50&nbsp;%" in box.look(desk.browser())[0]


# Sessions and examples


@pytest.mark.parametrize(
    ("question", "typed", "both"),
    [("a", "", "a"), ("a b", "a", "a b"), ("a", "b", "a\nb"), ("", "b", "b")],
)
def test_a_question_that_comes_back_stands_before_what_was_typed(question, typed, both):
    assert joined(question, typed) == both


def test_the_oldest_idle_session_is_forgotten_first(desk: Desk):
    sessions = Sessions(most=2)
    desk.sessions = sessions
    first = sessions.of("first")
    desk.engine.enqueue([30.0])
    first.begin(desk.engine, Request(Conversation((Turn("?"),)), session="first"))
    second = sessions.of("second")
    sessions.of("third")
    assert len(sessions) == 2
    assert sessions.of("first") is first and sessions.of("second") is not second
    first.stop()


def test_a_new_chat_keeps_what_the_tab_shows_of_the_model_and_nothing_else():
    sessions = Sessions()
    old = sessions.of("one")
    old.said, old.known, old.precision = "ready", "facts", "int8"
    old.conversation, old.typed = Conversation((Turn("?"),)), "half a"
    sessions.begin_anew("one")
    new = sessions.of("one")
    assert (new.said, new.known, new.precision) == ("ready", "facts", "int8")
    assert (new.conversation, new.typed) == (Conversation(), "")


def test_to_begin_anew_where_the_session_was_forgotten_meanwhile_is_nothing():
    sessions = Sessions()
    sessions.begin_anew("forgotten")
    assert len(sessions) == 0


def test_an_answer_that_nobody_came_for_keeps_no_session(desk: Desk):
    sessions = Sessions(most=2)
    for name in ("first", "second", "third"):
        session = sessions.of(name)
        session.begin(desk.engine, Request(Conversation((Turn("?"),)), session=name))
        for _ in session.running.stream:
            pass
    assert sessions.of("fourth") is sessions.of("fourth")
    assert len(sessions) == 2


def test_a_new_session_is_kept_however_busy_the_others_are(desk: Desk):
    sessions = Sessions(most=1)
    desk.engine.enqueue([30.0])
    busy = sessions.of("busy")
    busy.begin(desk.engine, Request(Conversation((Turn("?"),)), session="busy"))
    assert sessions.of("new") is sessions.of("new") and sessions.of("busy") is busy
    busy.stop()


def test_every_example_of_the_project_has_its_files(composer):
    examples = read_examples(ROOT / "assets" / "examples", composer.media)
    assert len(examples) >= 3
    assert all(example.previews and example.files for example in examples)


def test_examples_whose_files_are_missing_are_left_out(composer, tmp_path):
    (tmp_path / "examples.json").write_text('[{"question": "?", "files": ["none.png"]}]')
    assert read_examples(tmp_path, composer.media) == ()
    assert read_examples(tmp_path / "nowhere", composer.media) == ()


def test_a_checkpoint_that_says_nothing_of_itself_has_no_abilities(tmp_path):
    assert read_abilities(tmp_path) == ""
    (tmp_path / "abilities.md").write_text("It counts shapes.\n")
    assert read_abilities(tmp_path) == "It counts shapes."
