"""Take the README's pictures of the real page: `make screenshots`.

Starts the app with the bundled checkpoint, asks the project's own examples in Chromium as a
person would, and saves what is seen to assets/screenshots/. Not a test: somebody must look.
"""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).parent.parent
SHOTS = ROOT / "assets" / "screenshots"
EXAMPLES = ROOT / "assets" / "examples"
START_S = 120
WAIT_MS = 60_000


@contextmanager
def running_app() -> Iterator[str]:
    """The address of the app, once its page answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=ROOT)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address)
        yield address
    finally:
        app.terminate()
        app.wait()


def wait_for(address: str) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(address).close()
            return
        except urllib.error.URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def drop(tab: Page, *names: str) -> None:
    tab.locator("#box input[type=file]").set_input_files([EXAMPLES / name for name in names])
    expect(tab.locator(".tray .file")).to_have_count(len(names))


def ask(tab: Page, question: str) -> None:
    tab.get_by_label("Your question").fill(question)
    tab.get_by_role("button", name="Send").click()
    expect(tab.get_by_role("button", name="Stop")).to_be_hidden()
    expect(tab.get_by_role("button", name="Send")).to_be_visible()


def converse(tab: Page) -> None:
    """Two pictures are compared; a video and the next question wait in the box."""
    expect(tab.locator("#model")).to_contain_text("ready ·", timeout=START_S * 1000)
    drop(tab, "sky-one.png", "sky-two.png")
    ask(tab, "What are the differences between these two images?")
    drop(tab, "gliding-star.mp4")
    expect(tab.locator(".tray .strip li")).to_have_count(8)
    tab.get_by_label("Your question").fill("What moves in the video?")
    expect(tab.locator(".budget")).to_contain_text("1 video")


def main() -> None:
    """Save the page, wide and light, and narrow and dark."""
    SHOTS.mkdir(exist_ok=True)
    expect.set_options(timeout=WAIT_MS)
    looks = {"page": (1280, 860, "light"), "phone": (390, 844, "dark")}
    with running_app() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-background-networking"],
        )
        for name, (width, height, scheme) in looks.items():
            tab = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,  # type: ignore[arg-type]
                device_scale_factor=1.5,
            )
            tab.goto(address)
            converse(tab)
            tab.wait_for_timeout(500)
            tab.screenshot(path=SHOTS / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
