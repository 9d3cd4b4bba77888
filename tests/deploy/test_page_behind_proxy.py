"""The page in a real Chromium behind a real nginx: under a sub-path, with TLS."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.deploy.conftest import Behind
from tests.ui.conftest import WAIT_MS

pytestmark = pytest.mark.browser
expect.set_options(timeout=WAIT_MS)


@pytest.fixture
def tab(behind: Behind, chromium: Browser) -> Iterator[Page]:
    """The page behind the proxy, in a browser that accepts the certificate."""
    context = chromium.new_context(
        ignore_https_errors=True, viewport={"width": 1280, "height": 860}
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.goto(behind.proxy.url)
    page.locator(".example").first.wait_for()
    yield page
    context.close()


def ask(tab: Page, question: str) -> None:
    tab.get_by_label("Your question").fill(question)
    tab.get_by_label("Your question").press("Enter")


def drop(tab: Page, *paths: Path) -> None:
    tab.locator("#box input[type=file]").set_input_files(paths)


def test_the_page_lives_under_its_sub_path_alone(tab: Page, behind: Behind) -> None:
    strays: list[str] = []
    at_home = re.compile(rf"{re.escape(behind.proxy.url)}|(data|blob):")
    tab.on("request", lambda asked: at_home.match(asked.url) or strays.append(asked.url))
    tab.on("response", lambda told: told.status < 400 or strays.append(f"{told.status} {told.url}"))
    tab.reload()
    tab.locator(".example").first.wait_for()
    assert strays == []


def test_a_picture_is_shown_sent_and_answered(tab: Page, behind: Behind, files: Path) -> None:
    drop(tab, files / "wide.png")
    expect(tab.locator(".tray .image .badge")).to_have_count(1)
    behind.engine.enqueue(["Two ", "**shapes**."])
    ask(tab, "What is this?")
    expect(tab.locator("#history")).to_contain_text("Two shapes.")
    (sent,) = behind.engine.requests[-1].conversation.turns[-1].attachments
    assert sent.name == "wide.png"
    for picture in tab.locator("#history .files img").all():
        assert picture.evaluate("(image) => image.complete && image.naturalWidth > 0")


def test_words_are_seen_while_the_engine_writes_and_stop_ends_it(tab: Page, behind: Behind) -> None:
    behind.engine.enqueue(["First ", 120.0, "last."])
    ask(tab, "Tell me slowly.")
    expect(tab.locator("#live")).to_contain_text("First")
    stream = behind.engine.streams[-1]
    assert not stream.closed
    tab.get_by_role("button", name="Stop").click()
    expect(tab.get_by_role("button", name="Send")).to_be_visible()
    assert stream.closed


def test_a_file_over_the_limit_is_refused_in_words(
    tab: Page, behind: Behind, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(bytes(400_000))
    drop(tab, large)
    expect(tab.get_by_text("larger than this server takes")).to_be_visible()
    behind.engine.enqueue(["Still ", "here."])
    ask(tab, "Are you there?")
    expect(tab.locator("#history")).to_contain_text("Still here.")
