"""The page in a real Chromium, as a person uses it: what is seen, pressed and kept."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from backend.engine import State
from backend.errors import OutOfMemory
from tests.ui.conftest import WAIT_MS, Served

pytestmark = pytest.mark.browser
expect.set_options(timeout=WAIT_MS)
Open = Callable[..., Page]


@pytest.fixture(autouse=True)
def fresh_engine(served: Served):
    """Scripts that a test left behind must not answer the next one."""
    yield
    served.engine._scripts.clear()
    served.engine.become(State.READY, 1.0)


def drop(tab: Page, files, *names: str) -> None:
    tab.locator("#box input[type=file]").set_input_files([files / name for name in names])
    expect(tab.locator(".tray .file")).to_have_count(len(names))


def ask(tab: Page, question: str) -> None:
    tab.get_by_label("Your question").fill(question)
    tab.get_by_label("Your question").press("Enter")


def wait_for_answer(tab: Page, text: str) -> None:
    expect(tab.locator("#history")).to_contain_text(text)
    expect(tab.get_by_role("button", name="Send")).to_be_visible()


def test_two_pictures_and_a_video_are_shown_sent_and_answered(open_tab: Open, served, files):
    tab = open_tab()
    drop(tab, files, "wide.png", "tall.png", "clip.mp4")
    expect(tab.locator(".tray .image .badge")).to_have_count(2)
    expect(tab.locator(".tray .strip li")).to_have_count(8)
    tab.get_by_label("Your question").fill("What differs?")
    expect(tab.locator(".budget")).to_contain_text("2 images · 1 video · 10 tiles")
    served.engine.enqueue(["They ", 0.2, "**differ**."])
    tab.get_by_role("button", name="Send").click()
    wait_for_answer(tab, "They differ.")
    expect(tab.locator("#history .files .picture img")).to_have_count(10)
    expect(tab.locator("#history .statistics")).to_contain_text("16 visual + 44 text tokens")
    expect(tab.locator(".tray .file")).to_have_count(0)
    for picture in tab.locator("#history .files img").all():
        assert picture.evaluate("(image) => image.complete && image.naturalWidth > 0")
    sent = served.engine.requests[-1].conversation.turns[0]
    assert [file.name for file in sent.attachments] == ["wide.png", "tall.png", "clip.mp4"]


def test_a_refused_file_stays_visible_with_its_reason_and_can_be_taken_out(open_tab: Open, files):
    tab = open_tab()
    drop(tab, files, "wide.png", "words.png")
    expect(tab.locator(".tray .refused")).to_contain_text("words.png")
    expect(tab.locator(".tray .refused")).to_contain_text("not an image or a video")
    tab.get_by_role("button", name="Remove words.png").click()
    expect(tab.locator(".tray .file")).to_have_count(1)


def test_the_strip_follows_the_number_of_frames_and_the_range(open_tab: Open, served, files):
    tab = open_tab()
    drop(tab, files, "clip.mp4")
    tab.get_by_label("Frames, clip.mp4").fill("3")
    tab.get_by_label("Frames, clip.mp4").press("Tab")
    expect(tab.locator(".tray .strip li")).to_have_count(3)
    tab.get_by_label("From, s, clip.mp4").fill("1")
    tab.get_by_label("From, s, clip.mp4").press("Enter")
    expect(tab.locator(".tray .strip time").first).to_have_text(re.compile(r"0:01\.\d"))
    expect(tab.locator(".budget")).to_contain_text("3 tiles")
    ask(tab, "What moves?")
    wait_for_answer(tab, "An answer.")
    film = served.engine.requests[-1].conversation.turns[0].attachments[0]
    assert (film.frames, film.start_s) == (3, 1.0)


def test_a_wrong_range_is_said_and_the_former_choice_stays(open_tab: Open, files):
    tab = open_tab()
    drop(tab, files, "clip.mp4")
    tab.get_by_label("Frames, clip.mp4").fill("100000")
    tab.get_by_label("Frames, clip.mp4").press("Enter")
    expect(tab.get_by_role("alert")).to_contain_text("frames of clip.mp4")
    expect(tab.locator(".tray .strip li")).to_have_count(8)


def test_pictures_pasted_or_dropped_anywhere_come_into_the_box(open_tab: Open):
    tab = open_tab()
    tab.evaluate(
        """async () => {
          const canvas = Object.assign(document.createElement('canvas'), {width: 40, height: 30});
          canvas.getContext('2d').fillRect(0, 0, 20, 20);
          const blob = await new Promise((done) => canvas.toBlob(done, 'image/png'));
          const bag = (name) => {
            const bag = new DataTransfer();
            bag.items.add(new File([blob], name, {type: 'image/png'}));
            return bag;
          };
          const options = {bubbles: true, cancelable: true};
          const {body} = document;
          body.dispatchEvent(
            new ClipboardEvent('paste', {clipboardData: bag('pasted.png'), ...options}));
          await new Promise((done) => setTimeout(done, 1500));
          body.dispatchEvent(new DragEvent('drop', {dataTransfer: bag('dropped.png'), ...options}));
        }"""
    )
    expect(tab.locator(".tray .image")).to_have_count(2)


def test_stop_in_mid_answer_keeps_the_text_and_frees_the_page(open_tab: Open, served):
    tab = open_tab()
    served.engine.enqueue(["Once upon a time ", 60.0, "never"])
    ask(tab, "Tell a story.")
    expect(tab.locator("#live")).to_contain_text("Once upon a time")
    expect(tab.get_by_role("button", name="Send")).to_be_hidden()
    tab.get_by_role("button", name="Stop").click()
    wait_for_answer(tab, "Once upon a time")
    expect(tab.locator("#history .statistics")).to_contain_text("stopped by you")
    assert served.engine.streams[-1].closed


def test_escape_stops_and_an_early_stop_gives_the_question_back(open_tab: Open, served, files):
    tab = open_tab()
    drop(tab, files, "wide.png")
    served.engine.enqueue([60.0, "never"])
    ask(tab, "Tell a story.")
    expect(tab.locator("#progress")).to_contain_text("Reading 1 tile")
    tab.keyboard.press("Escape")
    expect(tab.get_by_label("Your question")).to_have_value("Tell a story.")
    expect(tab.locator(".tray .file")).to_have_count(1)
    expect(tab.get_by_role("alert")).to_contain_text("Stopped before the first word")


def test_retry_undo_and_a_new_chat(open_tab: Open, served, files):
    tab = open_tab()
    drop(tab, files, "wide.png")
    served.engine.enqueue(["First answer."])
    served.engine.enqueue(["Second answer."])
    ask(tab, "What is here?")
    wait_for_answer(tab, "First answer.")
    tab.get_by_role("button", name="Retry").click()
    wait_for_answer(tab, "Second answer.")
    expect(tab.locator("#history")).not_to_contain_text("First answer.")
    tab.get_by_role("button", name="Undo").click()
    expect(tab.get_by_label("Your question")).to_have_value("What is here?")
    expect(tab.locator(".tray .file")).to_have_count(1)
    expect(tab.locator("#history")).not_to_contain_text("Second answer.")
    tab.get_by_role("button", name="New chat").click()
    expect(tab.get_by_label("Your question")).to_have_value("")
    expect(tab.locator(".tray .file")).to_have_count(0)
    expect(tab.locator("#welcome h2").first).to_be_visible()


def test_an_error_says_what_to_do_and_gives_back_the_question_and_its_files(
    open_tab: Open, served, files
):
    tab = open_tab()
    drop(tab, files, "wide.png", "clip.mp4")
    served.engine.enqueue(["half ", 0.3, OutOfMemory("There is no room.", "Use 6 tiles.")])
    ask(tab, "What is here?")
    expect(tab.get_by_role("alert")).to_contain_text("There is no room. Use 6 tiles.")
    expect(tab.get_by_label("Your question")).to_have_value("What is here?")
    expect(tab.locator(".tray .file")).to_have_count(2)
    served.engine.enqueue(["Better."])
    tab.get_by_role("button", name="Send").click()
    wait_for_answer(tab, "Better.")
    expect(tab.locator(".notice")).to_have_count(0)


def test_a_closed_tab_ends_the_stream(open_tab: Open, served):
    tab = open_tab()
    served.engine.enqueue(["some ", 60.0])
    ask(tab, "Tell a story.")
    expect(tab.locator("#live")).to_contain_text("some")
    stream = served.engine.streams[-1]
    tab.context.close()
    with stream._changed:
        assert stream._changed.wait_for(lambda: stream.closed, WAIT_MS / 1000)


def test_an_example_works_in_one_click(open_tab: Open, served):
    tab = open_tab()
    served.engine.enqueue(["Three shapes."])
    tab.locator(".example").first.click()
    wait_for_answer(tab, "Three shapes.")
    assert served.engine.requests[-1].conversation.turns[0].attachments


def test_loading_failing_and_ready_are_told(open_tab: Open, served):
    served.engine.become(State.LOADING, share=0.63)
    tab = open_tab()
    expect(tab.locator("#model")).to_contain_text("Loading fake model, 63 %")
    served.engine.become(State.FAILED, reason="The weights are damaged.")
    expect(tab.locator("#model")).to_contain_text("The weights are damaged.")
    ask(tab, "Are you there?")
    expect(tab.get_by_role("alert")).to_contain_text("The weights are damaged.")
    expect(tab.get_by_label("Your question")).to_have_value("Are you there?")
    served.engine.become(State.READY, 1.0)
    expect(tab.locator("#model")).to_contain_text("ready · cpu · float32 · sdpa")


def test_markdown_code_and_the_four_kinds_of_latex_are_drawn(open_tab: Open, served):
    tab = open_tab()
    served.engine.enqueue(
        ["**bold** $a^2$ and \\(b^2\\)\n\n$$c^2$$\n\n\\[d^2\\]\n\n```python\n    print(1)\n```\n"]
    )
    ask(tab, "Write.")
    wait_for_answer(tab, "bold")
    expect(tab.locator("#history strong")).to_have_text("bold")
    expect(tab.locator("#history .katex")).to_have_count(4)
    assert tab.locator("#history pre code").inner_text().startswith("    print(1)")
    expect(tab.get_by_role("button", name="Copy message")).to_have_count(1)


def test_pictures_from_elsewhere_and_scripts_in_an_answer_do_nothing(open_tab: Open, served):
    tab = open_tab()
    asked_for: list[str] = []
    tab.on("request", lambda request: asked_for.append(request.url))
    address = "https://elsewhere.invalid/x.png?q=secret"
    served.engine.enqueue(
        [
            f"![a]({address}) ![b][c]\n\n[c]: {address}\n\n"
            f'<img src="{address}" onerror="window.harmed = 1"> '
            f"<script>window.harmed = 2</script> <image>{address}</image> end"
        ]
    )
    ask(tab, "Write.")
    wait_for_answer(tab, "end")
    tab.wait_for_timeout(300)
    assert [url for url in asked_for if not url.startswith(served.url)] == []
    assert tab.evaluate("window.harmed") is None


def test_the_policy_alone_keeps_a_picture_from_elsewhere_away(open_tab: Open, served):
    """Without the words' disarming: what the browser itself refuses."""
    tab = open_tab()
    blocked = tab.evaluate(
        """() => new Promise((done) => {
          addEventListener('securitypolicyviolation', (event) => done(event.violatedDirective));
          const image = new Image();
          image.onerror = () => setTimeout(() => done('nothing'), 500);
          image.src = 'https://elsewhere.invalid/x.png';
          document.body.append(image);
        })"""
    )
    assert blocked == "img-src"


def test_an_input_method_s_enter_does_not_send(open_tab: Open, served):
    tab = open_tab()
    before = len(served.engine.requests)
    tab.get_by_label("Your question").fill("にほん")
    tab.evaluate(
        """() => {
          const box = document.querySelector('#question textarea');
          for (const name of ['keydown', 'keypress'])
            box.dispatchEvent(new KeyboardEvent(
              name, {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}));
        }"""
    )
    tab.get_by_label("Your question").press("Shift+Enter")
    tab.wait_for_timeout(300)
    assert len(served.engine.requests) == before
    assert tab.get_by_label("Your question").input_value() == "にほん\n"


# What reaches beyond the screen and is none of the things that scroll by themselves.
CUT_OFF = """() => [...document.querySelectorAll('#reading *, #box *')]
  .filter((element) => {
    const {left, right} = element.getBoundingClientRect();
    return left < -1 || right > innerWidth + 1;
  })
  .filter((element) => element.checkVisibility())
  .filter((element) => !element.closest('pre, table, .katex-display, .strip, .tray, .unseen'))
  .map((element) => element.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(open_tab: Open, served, files, theme):
    tab = open_tab(
        viewport={"width": 390, "height": 844}, color_scheme=theme, has_touch=True, is_mobile=True
    )
    wide = "() => document.documentElement.scrollWidth"
    assert tab.evaluate(wide) == 390
    drop(tab, files, "wide.png", "tall.png", "clip.mp4", "words.png")
    assert tab.evaluate(wide) == 390
    long = (
        "a" * 300 + "\n\n```\n" + "b" * 300 + "\n```\n\n| " + " | ".join(["column"] * 20) + " |\n"
    )
    served.engine.enqueue([long + "|---" * 20 + "|\n", "$$" + "x+" * 100 + "x$$\n"])
    ask(tab, "w" * 200)
    wait_for_answer(tab, "aaa")
    assert tab.evaluate(wide) == 390
    assert tab.evaluate(CUT_OFF) == []
    for name in ("Send", "Add pictures or a video", "Retry"):
        assert tab.get_by_role("button", name=name).bounding_box()["height"] >= 44


CONTRAST = """() => {
  const channel = (value) => {
    const share = value / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const light = ([red, green, blue]) =>
    0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(element.tagName)) continue;
    if (element.closest('.katex-mathml')) continue;
    const look = getComputedStyle(element);
    if (parseFloat(look.fontSize) === 0) continue;
    const pair = [light(numbers(look.color)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) faint.push(`${texts.currentNode.textContent.trim()}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
NAMELESS = """() => {
  const nameless = [];
  for (const control of document.querySelectorAll('button, input, textarea, select, a[href]')) {
    if (!control.checkVisibility() || control.type === 'file') continue;
    const labels = [...(control.labels || [])].map((label) => label.textContent).join('');
    const said = (labels || control.textContent).trim();  // innerText is "" in a folded bar
    const name = control.getAttribute('aria-label') || said || control.title;
    if (!name || !name.trim()) nameless.push(control.outerHTML.slice(0, 200));
  }
  for (const image of document.querySelectorAll('img')) {
    if (!image.hasAttribute('alt')) nameless.push(image.outerHTML.slice(0, 200));
  }
  return nameless;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_and_every_control_has_a_name(open_tab: Open, served, files, theme):
    tab = open_tab(f"?__theme={theme}")
    expect(tab.locator("body.dark")).to_have_count(int(theme == "dark"))
    drop(tab, files, "wide.png")
    code = "```python\ndef add(a: int) -> str:\n    return f'{a + 1}'  # one more\n```"
    served.engine.enqueue([f"See <ref>dot</ref><box>[[60, 100, 350, 610]]</box>.\n\n{code}"])
    ask(tab, "Where is the dot?")
    wait_for_answer(tab, "See")
    expect(tab.locator("#history .boxes img")).to_be_visible()
    drop(tab, files, "wide.png", "clip.mp4", "words.png")
    served.engine.enqueue([OutOfMemory("There is no room.", "Use 6 tiles.")])
    ask(tab, "Again?")
    expect(tab.get_by_role("alert")).to_contain_text("no room")
    tab.get_by_role("button", name="Settings").click()
    expect(tab.get_by_label("System prompt")).to_be_visible()
    tab.wait_for_timeout(400)  # the side bar slides in
    assert tab.evaluate(CONTRAST) == []
    assert tab.evaluate(NAMELESS) == []
