"""The page in a real Chromium, answered by a real llama.cpp: a conversation, and Stop."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import gradio as gr
import pytest
from playwright.sync_api import Browser, Page, expect

from backend.settings import Settings
from tests.engines.conftest import EXAMPLES, Connect
from tests.engines.running import Llama
from tests.ui.conftest import WAIT_MS, chromium  # noqa: F401  (a fixture)
from tests.waiting import free_port, wait_until
from ui import build_page, launch_options

pytestmark = pytest.mark.browser
expect.set_options(timeout=WAIT_MS)
Open = Callable[[str], Page]


@contextmanager
def served(connect: Connect, url: str) -> Iterator[str]:
    """The page over an engine; yields its address."""
    settings = Settings(port=free_port(), engines=(url,))
    engine = connect(url)

    async def launch() -> tuple[gr.Blocks, str]:
        page = build_page(engine, lambda: engine.composer, settings)
        _, address, _ = page.launch(prevent_thread_lock=True, **launch_options(settings))
        return page, address

    # Gradio makes event loops where none runs, and never closes them; here Playwright's runs.
    with ThreadPoolExecutor(1) as pool:
        page, address = pool.submit(lambda: asyncio.run(launch())).result()
    try:
        yield address
    finally:
        engine.close()
        page.close(verbose=False)


@pytest.fixture
def open_tab(chromium: Browser) -> Iterator[Open]:  # noqa: F811
    contexts = []

    def open_one(address: str) -> Page:
        context = chromium.new_context(viewport={"width": 1280, "height": 860})
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        tab = context.new_page()
        tab.goto(address)
        expect(tab.locator("#model .ready")).to_be_visible()
        return tab

    yield open_one
    for context in contexts:
        context.close()


def drop(tab: Page, name: str) -> None:
    tab.locator("#box input[type=file]").set_input_files(EXAMPLES / name)
    expect(tab.locator(".tray .file")).to_have_count(1)


def ask(tab: Page, question: str) -> None:
    tab.get_by_label("Your question").fill(question)
    tab.get_by_label("Your question").press("Enter")


def wait_for_answers(tab: Page, count: int) -> None:
    expect(tab.locator("#history .statistics")).to_have_count(count)
    expect(tab.get_by_role("button", name="Send")).to_be_visible()


TURNS = (
    ("How many shapes are there?", "night.png"),
    ("And in Image-2?", "three-shapes.png"),
    ("What moves?", "gliding-star.mp4"),
    ("Thank you.", ""),
)


def hold_four_turns(tab: Page) -> list[str]:
    """Ask about two pictures and a video; what is said under each answer."""
    for number, (question, name) in enumerate(TURNS, start=1):
        if name:
            drop(tab, name)
        ask(tab, question)
        wait_for_answers(tab, number)
    expect(tab.locator("#history .files .picture img")).to_have_count(2 + 8)
    costs = tab.locator("#history .statistics").all_inner_texts()
    assert costs[0].startswith("16 visual") and costs[1].startswith("32 visual")
    assert costs[3].startswith("160 visual")
    return costs


def test_four_turns_with_two_pictures_and_a_video(
    llama: Llama, connect: Connect, open_tab: Open
) -> None:
    with served(connect, llama.url) as address:
        tab = open_tab(address)
        expect(tab.locator("#model")).to_contain_text("llama.cpp at 127.0.0.1")
        assert "of them read before" in hold_four_turns(tab)[3]


def test_the_same_four_turns_with_transformers_serve(
    transformers: str, connect: Connect, open_tab: Open
) -> None:
    with served(connect, transformers) as address:
        tab = open_tab(address)
        expect(tab.locator("#model")).to_contain_text("transformers serve at 127.0.0.1")
        hold_four_turns(tab)


def test_stop_is_seen_in_the_engines_own_figures(
    endless: Llama, connect: Connect, open_tab: Open
) -> None:
    with served(connect, endless.url) as address:
        tab = open_tab(address)
        tab.locator("#settings").get_by_role("button").first.click()
        tab.get_by_label("Max new tokens").fill("30000")
        ask(tab, "Tell me all.")
        expect(tab.locator("#live")).to_contain_text(" ")
        wait_until(lambda: endless.busy == 1)
        tab.get_by_role("button", name="Stop").click()
        wait_for_answers(tab, 1)
        wait_until(lambda: endless.busy == 0, "the engine goes on")
        assert endless.figure("requests_processing") == 0
        expect(tab.locator("#history .statistics")).to_contain_text("stopped by you")


def test_what_the_engine_cannot_do_is_greyed_out_with_the_reason(
    llama: Llama, connect: Connect, open_tab: Open
) -> None:
    with served(connect, llama.url) as address:
        tab = open_tab(address)
        expect(tab.locator("#settings")).to_contain_text("numbers pictures one by one")
        expect(tab.get_by_label("combined")).to_be_disabled()
        expect(tab.get_by_label("Your question")).to_be_enabled()
