"""int8 and nf4 chosen on the page, for real: the bundled checkpoint loads anew and answers."""

import asyncio
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from playwright.sync_api import Page, expect

import app
from backend.engine import State
from backend.local.engine import LocalEngine, load_checkpoint
from backend.prompt.compose import Composer
from backend.settings import Settings
from backend.switching import SwitchingEngine
from tests.ui.conftest import ROOT, Served, chromium, open_tab  # noqa: F401  (fixtures)
from tests.waiting import free_port, wait_until
from ui import build_page, launch_options
from ui.sessions import Sessions

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
LOADING_MS = 120_000
SHAPES = ROOT / "assets" / "examples" / "three-shapes.png"
MATRICES = {"auto": torch.nn.Linear, "int8": Linear8bitLt, "nf4": Linear4bit}


class Loaded:
    """Makes engines of this process, and knows the network that was loaded last."""

    network: Any = None

    def load(self, settings: Settings, composer: Composer, report: Any) -> Any:
        model: Any = load_checkpoint(settings, composer, report)
        self.network = weakref.ref(model._network)
        return model

    def make(self, settings: Settings) -> LocalEngine:
        return LocalEngine(settings, self.load)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return Loaded()


@pytest.fixture(scope="module")
def served(loaded: Loaded) -> Iterator[Served]:
    """The page as `app.py` makes it, with a real engine behind it."""
    settings = Settings(port=free_port(), dtype="float32")
    engine: SwitchingEngine[Composer] = SwitchingEngine(settings, loaded.make)
    sessions = Sessions()

    async def launch() -> tuple[gr.Blocks, str]:
        picker = app.make_picker(engine)
        page = build_page(engine, lambda: engine.composer, settings, sessions, picker)
        _, url, _ = page.launch(prevent_thread_lock=True, **launch_options(settings))
        return page, url

    # Gradio makes event loops where none runs, and never closes them; here Playwright's runs.
    with ThreadPoolExecutor(1) as pool:
        page, url = pool.submit(lambda: asyncio.run(launch())).result()
    engine.start()
    wait_until(lambda: engine.status().state is State.READY)
    yield Served(url, engine, sessions, page)  # type: ignore[arg-type]
    engine.close()
    page.close(verbose=False)


def pick(tab: Page, precision: str) -> None:
    """Choose the bundled checkpoint in a precision and wait until it is loaded."""
    tab.get_by_role("button", name="Change the model").click()
    tab.get_by_role("button", name=precision, exact=True).click()
    chosen = tab.get_by_role("button", name=precision, exact=True)
    expect(chosen).to_have_attribute("aria-pressed", "true")
    tab.get_by_role("button", name="bundled").click()
    expect(tab.locator("#model")).to_contain_text("Loading bundled")


def ask_for_the_circle(tab: Page, nth: int) -> None:
    with tab.expect_file_chooser() as chooser:
        tab.get_by_role("button", name="Add pictures or a video").click()
    chooser.value.set_files([SHAPES])
    expect(tab.locator(".tray .file")).to_have_count(1)
    tab.get_by_label("Your question").fill("What color is the circle?")
    tab.get_by_label("Your question").press("Enter")
    expect(tab.locator("#history .statistics")).to_have_count(nth)
    expect(tab.locator("#history .statistics").last).to_contain_text("finished")


def test_a_precision_picked_on_the_page_is_loaded_and_answers_rightly(
    open_tab: Open,  # noqa: F811
    loaded: Loaded,
) -> None:
    tab = open_tab()
    for nth, (precision, told) in enumerate(
        (("nf4", "nf4 + float32"), ("int8", "int8 + float32"), ("auto", "· float32 ·")), 1
    ):
        pick(tab, precision)
        expect(tab.locator("#model")).to_contain_text(told, timeout=LOADING_MS)
        expect(tab.locator("#model")).not_to_contain_text("auto:")  # float32 was asked for
        layer = loaded.network().model.language_model.layers[0]
        assert type(layer.mlp.up_proj) is MATRICES[precision]
        ask_for_the_circle(tab, nth)
        answer = tab.locator("#history").inner_text().lower()
        assert answer.count("red") == nth, answer
