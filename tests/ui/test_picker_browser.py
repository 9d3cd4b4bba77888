"""Changing the model in a real Chromium: while an answer is written, in vain, and back."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from backend.engine import State
from backend.offers import Menu, Picker
from backend.prompt.compose import Composer, open_composer
from backend.settings import Settings
from backend.switching import SwitchingEngine
from tests.fakes import FakeEngine
from tests.ui.conftest import ROOT, WAIT_MS, Served
from tests.ui.test_browser import CONTRAST, CUT_OFF, NAMELESS, ask, wait_for_answer
from tests.ui.test_picker import menu_of
from ui import build_page, launch_options
from ui.sessions import Sessions

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
OTHER = ROOT / "tests" / "golden" / "original" / "qknorm-112"
REASON = "2B is not on this machine and the hub cannot be reached."


class Inner(FakeEngine):
    """Loads "2B" when the test says so, and fails to if the test says that."""

    may_load = threading.Event()
    fails = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.model)
        self.settings = settings
        self.composer: Composer | None = None
        self.become(State.LOADING)

    def start(self) -> None:
        threading.Thread(target=self._load, daemon=True).start()

    def _load(self) -> None:
        if self.settings.model == "bundled":
            self.composer = open_composer(ROOT / "assets" / "checkpoint", self.settings)
        else:
            self.become(State.LOADING, 0.3)
            self.now = replace(self.now, doing="downloading 1.3 of 4.2 GB")
            assert self.may_load.wait(WAIT_MS / 1000)
            if self.fails:
                self.become(State.FAILED, reason=REASON)
                return
            self.composer = open_composer(OTHER, self.settings)
        self.become(State.READY, 1.0)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """As the page of other tests, but its model can be changed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings = Settings(port=free.getsockname()[1])
    engine: SwitchingEngine[Composer] = SwitchingEngine(settings, Inner)
    engine.start()
    sessions = Sessions()

    def menu(quantize: str | None) -> Menu:
        """The menu of `test_picker`, for the settings of this page."""
        listed = menu_of(quantize)
        offers = (
            replace(one, settings=replace(one.settings, port=settings.port))
            for one in listed.offers
        )
        return replace(listed, offers=tuple(offers))

    picker = Picker(menu, lambda: engine.settings, engine.choose)

    async def launch() -> tuple[gr.Blocks, str]:
        page = build_page(engine, lambda: engine.composer, settings, sessions, picker)
        _, url, _ = page.launch(prevent_thread_lock=True, **launch_options(settings))
        return page, url

    page, url = asyncio.run(launch())
    yield Served(url, engine, sessions, page)  # type: ignore[arg-type]
    engine.close()
    page.close(verbose=False)


@pytest.fixture(autouse=True)
def bundled_again(served: Served) -> Iterator[None]:
    yield
    Inner.fails = False
    Inner.may_load.set()
    served.engine.choose(Settings(port=int(served.url.rstrip("/").rpartition(":")[2])))


def unfold(tab: Page) -> None:
    tab.get_by_role("button", name="Change the model").click()
    expect(tab.locator(".menu")).to_be_visible()


def inner(served: Served) -> Inner:
    return served.engine._engine  # type: ignore[attr-defined, no-any-return]


def test_a_change_while_an_answer_is_written_keeps_its_text_and_retry_asks_the_new_one(
    open_tab: Open, served: Served
) -> None:
    Inner.may_load.clear()
    tab, other = open_tab(), open_tab()
    inner(served).enqueue(["Once upon a time ", 60.0, "never"])
    ask(tab, "Tell a story.")
    expect(tab.locator("#live")).to_contain_text("Once upon a time")
    unfold(other)
    other.get_by_role("button", name="2B").click()
    expect(tab.get_by_role("alert")).to_contain_text("The model was changed to 2B")
    expect(tab.locator("#history")).to_contain_text("Once upon a time")
    expect(tab.locator("#history .statistics")).to_contain_text("broken off")
    for one in (tab, other):
        expect(one.locator("#model")).to_contain_text("Loading 2B, 30 %: downloading 1.3 of 4.2")
    Inner.may_load.set()
    for one in (tab, other):
        expect(one.locator("#model")).to_contain_text("ready ·")
    expect(other.locator(".example")).to_have_count(0)
    inner(served).enqueue(["Another ", "story."])
    tab.get_by_role("button", name="Retry").click()
    wait_for_answer(tab, "Another story.")
    expect(tab.locator(".budget")).to_contain_text("of 32,768")


def test_a_model_that_cannot_be_had_says_why_and_the_old_one_can_be_chosen_again(
    open_tab: Open, served: Served
) -> None:
    Inner.fails = True
    Inner.may_load.set()
    tab = open_tab()
    unfold(tab)
    tab.get_by_role("button", name="2B").click()
    expect(tab.locator("#model")).to_contain_text(REASON)
    ask(tab, "Are you there?")
    expect(tab.get_by_role("alert")).to_contain_text(REASON)
    unfold(tab)
    tab.get_by_role("button", name="bundled").click()
    expect(tab.locator("#model")).to_contain_text("ready ·")
    tab.get_by_role("button", name="Send").click()
    wait_for_answer(tab, "An answer.")


def test_what_does_not_fit_cannot_be_pressed_until_another_precision_fits(open_tab: Open) -> None:
    tab = open_tab()
    unfold(tab)
    large = tab.get_by_role("button", name="38B")
    expect(large).to_be_disabled()
    expect(large).to_contain_text("too large, fits in nf4")
    nf4 = tab.get_by_role("button", name="nf4", exact=True)
    nf4.click()
    expect(tab.get_by_role("button", name="38B")).to_be_enabled()
    expect(nf4).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_list_can_be_read_and_pressed_on_a_phone(open_tab: Open, theme: str) -> None:
    tab = open_tab(
        f"?__theme={theme}",
        viewport={"width": 390, "height": 844},
        color_scheme=theme,
        has_touch=True,
        is_mobile=True,
    )
    expect(tab.locator("#side.open")).to_have_count(0)  # it folds itself
    tab.get_by_role("button", name="Side bar").click()
    expect(tab.locator("#side.open")).to_have_count(1)
    tab.wait_for_timeout(400)  # it slides in
    unfold(tab)
    assert tab.evaluate("() => document.documentElement.scrollWidth") == 390
    assert tab.evaluate(CUT_OFF) == []
    for name in ("Change the model", "bundled", "2B", "int8"):
        box = tab.get_by_role("button", name=name).bounding_box()
        assert box is not None and box["height"] >= 44 and box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    assert tab.evaluate(CONTRAST) == []
    assert tab.evaluate(NAMELESS) == []
