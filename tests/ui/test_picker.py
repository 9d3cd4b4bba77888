"""The list of models: what it says, what a press does, and what a forged one does not."""

import asyncio
from dataclasses import dataclass, field, replace

import gradio as gr
import pytest

from backend.conversation import Answer, Conversation, End, Turn
from backend.engine import State
from backend.errors import BadSetting, ModelChanged
from backend.offers import Menu, Offer, Picker
from backend.prompt.compose import Composer, open_composer
from backend.settings import Settings
from tests.ui.conftest import ROOT, Desk, panel, texts
from ui import build_page, words
from ui.box import LOADING_S, READY_S, BoxHandlers
from ui.picker import PickHandlers, draw_menu, draw_offer
from ui.uploads import draw_card

OTHER = ROOT / "tests" / "golden" / "original" / "qknorm-112"


def menu_of(quantize: str | None) -> Menu:
    """The bundled one, one to be fetched, and one too large unless it is in nf4."""
    base = Settings(quantize=quantize)
    large = Offer("38B", replace(base, model="38B"), "41 GB")
    if quantize != "nf4":
        large = replace(large, needs="90 GB", reason="too large", remedy="in nf4 or on 2 × 48 GB")
    return Menu(
        "2 × 24 GB",
        (
            Offer("bundled", base, "0.9 GB"),
            Offer("<2B>", replace(base, model="2B"), "6.5 GB", comes="4.2 GB"),
            large,
        ),
    )


@dataclass
class Shop:
    """A picker that remembers what was chosen, and the handlers that use it."""

    desk: Desk
    chosen: Settings = Settings()
    choices: list[Settings] = field(default_factory=list)

    def __post_init__(self) -> None:
        picker = Picker(self.menu, lambda: self.chosen, self.choose)
        self.handlers = PickHandlers(self.desk.engine, picker, self.desk.sessions)

    def menu(self, quantize: str | None) -> Menu:
        return menu_of(quantize)

    def choose(self, settings: Settings) -> bool:
        self.choices.append(settings)
        self.chosen = settings
        return True

    def press(self, do: object, value: object = "", name: str = "one") -> list[object]:
        event = gr.EventData(None, {"do": do, "value": value})
        return self.handlers.press(event, self.desk.browser(name))


@pytest.fixture
def shop(desk: Desk) -> Shop:
    return Shop(desk)


def test_the_list_unfolds_and_folds(shop: Shop) -> None:
    drawn, *_ = shop.press("toggle")
    assert 'aria-expanded="true"' in str(drawn) and words.machine("2 × 24 GB") in str(drawn)
    drawn, *_ = shop.press("toggle")
    assert 'aria-expanded="false"' in str(drawn) and "38B" not in str(drawn)


def test_a_row_tells_what_a_model_needs_and_whether_it_fits() -> None:
    drawn = draw_menu(menu_of(None), Settings())
    bundled, fetched, large = drawn.split("<li>")[1:]
    assert "0.9 GB" in bundled and 'aria-current="true"' in bundled and "chosen now" in bundled
    assert "&lt;2B&gt;" in fetched and "<2B>" not in fetched and "disabled" not in fetched
    assert "needs the hub: 4.2 GB" in fetched
    assert "disabled" in large and "90 GB" in large
    assert "too large, fits in nf4 or on 2\u00a0×\u00a048\u00a0GB" in large


def test_a_row_notes_what_to_know_before_choosing() -> None:
    noted = Offer("9B", Settings(model="9B"), "22 GB", note="experimental")
    assert "<span>experimental</span>" in draw_offer(noted, chosen=False)
    assert "<span>" not in draw_offer(replace(noted, note=""), chosen=False)


def test_another_precision_shows_what_it_needs_and_chooses_nothing(shop: Shop) -> None:
    shop.press("toggle")
    drawn, *_ = shop.press("show", "nf4")
    assert "41 GB" in str(drawn) and "disabled" not in str(drawn) and not shop.choices
    shop.press("take", "38B")
    assert shop.choices == [Settings(model="38B", quantize="nf4")]
    drawn, *_ = shop.press("toggle")
    assert 'data-value="nf4" aria-pressed="true"' in str(drawn)


def test_choosing_tells_how_the_model_is_and_folds_the_list(shop: Shop) -> None:
    shop.press("toggle")
    shop.desk.engine.become(State.LOADING, 0.1)
    drawn, model, notice, timer = shop.press("take", "<2B>")
    assert shop.choices == [Settings(model="2B")]
    assert "38B" not in str(drawn) and "Loading fake, 10&nbsp;%" in str(model)
    assert notice == gr.skip() and isinstance(timer, gr.Timer)


def test_a_page_that_a_press_made_ask_often_soon_asks_seldom_again(shop: Shop) -> None:
    *_, often = shop.press("toggle")
    assert isinstance(often, gr.Timer) and often.value == LOADING_S
    box = BoxHandlers(shop.desk.engine, lambda: None, shop.desk.sessions, str)
    seldom = box.look(shop.desk.browser())[4]
    assert isinstance(seldom, gr.Timer) and seldom.value == READY_S
    assert box.look(shop.desk.browser())[4] == gr.skip()


def test_a_list_that_was_open_before_a_new_chat_still_chooses(shop: Shop) -> None:
    shop.press("toggle")
    shop.desk.chat.clear(shop.desk.browser())
    shop.press("take", "<2B>")
    assert shop.choices == [Settings(model="2B")]


@pytest.mark.parametrize(
    ("do", "value"),
    [
        ("take", "38B"),  # too large
        ("take", "/etc"),
        ("take", "someone/else"),
        ("take", ""),
        ("take", None),
        ("take", ["bundled"]),
        ("show", "int2"),
        ("choose", "38B"),
        ("_take", "<2B>"),
        (None, None),
        ({}, {}),
    ],
)
def test_a_forged_press_changes_nothing(shop: Shop, do: object, value: object) -> None:
    shop.press("toggle")
    shop.press(do, value)
    assert not shop.choices and shop.desk.session().precision == ""


@pytest.mark.parametrize("data", [None, [], "take", 7])
def test_a_press_that_says_nothing_changes_nothing(shop: Shop, data: object) -> None:
    assert shop.handlers.press(gr.EventData(None, data), shop.desk.browser()) == [gr.skip()] * 4


def test_a_folded_list_has_nothing_to_take(shop: Shop) -> None:
    shop.press("take", "<2B>")
    assert not shop.choices


def test_each_tab_has_its_own_list(shop: Shop) -> None:
    shop.press("toggle")
    drawn, *_ = shop.press("show", "int8", "two")
    assert shop.desk.session("two").precision == "int8"
    assert shop.desk.session("one").precision == ""


def test_a_machine_that_tells_nothing_says_so(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(quantize: str | None) -> Menu:
        raise BadSetting("This system does not tell how much memory is free.", "Say it.")

    shop.handlers._picker = replace(shop.handlers._picker, menu=refuse)
    drawn, _, notice, _ = shop.press("toggle")
    assert drawn == gr.skip() and "does not tell" in str(notice)


@pytest.mark.parametrize("may_pick", [True, False])
def test_a_page_that_may_not_change_the_model_has_no_list(shop: Shop, may_pick: bool) -> None:
    picker = shop.handlers._picker if may_pick else None

    async def build() -> gr.Blocks:  # Gradio makes a loop where none runs, and never closes it
        return build_page(shop.desk.engine, lambda: shop.desk.composer, Settings(), picker=picker)

    page = asyncio.run(build())
    names = [part["props"].get("elem_id") for part in page.config["components"]]
    assert ("picker" in names) is may_pick


# What the page makes of another model


@pytest.fixture(scope="module")
def other() -> Composer:
    return open_composer(OTHER, Settings(context=512))


def test_another_model_s_facts_are_asked_anew(desk: Desk, other: Composer, files) -> None:
    known: list[Composer | None] = [desk.composer]
    box = BoxHandlers(desk.engine, lambda: known[0], desk.sessions, lambda: "welcome")
    browser, session = desk.browser(), desk.session()
    picture = desk.drop(files / "wide.png")
    session.cards[picture] = draw_card(picture, desk.composer.media)
    before = box.weigh("What is here?", browser, *panel())
    assert "of 2,048" in before
    box.look(browser)
    assert box.look(browser)[1:4] == [gr.skip()] * 3  # nothing changed
    known[0] = None  # the next one is not known yet
    _, tray, welcome, budget, *_ = box.look(browser)
    assert welcome == "welcome"
    known[0] = other
    _, tray, welcome, budget, _, _, system, *_ = box.look(browser)
    assert "wide.png" in tray and welcome == "welcome" and "of 512" in budget
    assert system["placeholder"] == other.facts.system_prompt
    assert session.cards[picture] == draw_card(picture, other.media)


def test_a_chat_longer_than_the_new_context_is_refused_before_it_is_sent(
    desk: Desk, other: Composer
) -> None:
    session = desk.session()
    long = Turn("Tell me. " * 200, answer=Answer("Well. " * 200))
    session.conversation = Conversation((long,))
    box = BoxHandlers(desk.engine, lambda: other, desk.sessions, lambda: "")
    line = box.weigh("And now?", desk.browser(), *panel())
    assert "excess" in line and words.OVER_BUDGET in line and "512" in line
    assert session.conversation.turns == (long,)


def test_an_answer_that_a_change_ended_keeps_its_text_and_retry_asks_the_new_model(desk: Desk):
    changed = ModelChanged("The model was changed to 2B.", "Retry asks that one.")
    desk.engine.enqueue(["Once upon a time", changed])
    page = desk.converse("Tell a story.")
    assert "The model was changed to 2B. Retry" in page["notice"].replace("</b>", "")
    assert "Once upon a time" in texts(page["history"])
    assert "broken off" in texts(page["history"])[-1] and page["actions"]["visible"]
    (turn,) = desk.session().conversation.turns
    assert turn.answer is not None and turn.answer.statistics is not None
    assert turn.answer.statistics.end is End.BROKEN_OFF
    desk.chat.retry(desk.browser(), *panel())
    desk.follow()
    assert "An answer." in texts(desk.settle()["history"])


def test_a_question_that_waited_when_the_model_changed_is_back_in_the_box(desk: Desk):
    desk.engine.enqueue([ModelChanged("The model was changed to 2B.", "Ask again.")])
    page = desk.converse("Tell a story.")
    assert page["question"] == "Tell a story." and "changed to 2B" in page["notice"]
