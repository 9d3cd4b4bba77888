"""How the page lies and moves in a real Chromium: what stands on one line, what is followed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from backend.engine import State
from tests.ui.conftest import Served
from tests.ui.test_browser import ask, drop, wait_for_answer

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
LONG = "\n\n".join(f"Paragraph {number}." for number in range(60))
GAP = "() => document.documentElement.scrollHeight - innerHeight - scrollY"
AT_END = "() => document.documentElement.scrollHeight - innerHeight - scrollY < 2"

ON_TOP = """(title) => {
  const {x, y, height} = title.getBoundingClientRect();
  return title.contains(document.elementFromPoint(x + 40, y + height / 2));
}"""


@pytest.fixture(autouse=True)
def fresh_engine(served: Served) -> Iterator[None]:
    yield
    served.engine._scripts.clear()
    served.engine.become(State.READY, 1.0)


def height(part: Locator) -> float:
    box = part.bounding_box()
    assert box is not None
    return box["height"]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_short_question_stands_on_one_line(open_tab: Open, width: int) -> None:
    tab = open_tab(viewport={"width": width, "height": 860})
    heights = []
    for question in ("A", "And now?", "Internationalization", "Please describe it all."):
        ask(tab, question)
        said = tab.locator("#history .said").last
        expect(said).to_have_text(question)
        heights.append(height(said))
        expect(tab.get_by_role("button", name="Send")).to_be_visible()
    assert len(set(heights)) == 1


def test_the_end_of_an_answer_with_boxes_is_in_sight(
    open_tab: Open, served: Served, files: Path
) -> None:
    tab = open_tab()
    served.engine.enqueue([LONG])
    ask(tab, "Write much.")
    wait_for_answer(tab, "Paragraph 59.")
    drop(tab, files, "wide.png")
    served.engine.enqueue(["<ref>dot</ref><box>[[100, 100, 500, 500]]</box>"])
    ask(tab, "Where is the dot?")
    expect(tab.locator("#history .boxes img")).to_be_visible()
    tab.wait_for_function(AT_END)
    tab.wait_for_function("() => document.querySelector('.boxes img').naturalHeight > 0")
    tab.wait_for_timeout(300)  # nothing may move it away again
    assert tab.evaluate(GAP) < 2


def test_a_reader_who_scrolled_up_is_left_alone_until_they_ask_again(
    open_tab: Open, served: Served
) -> None:
    tab = open_tab()
    served.engine.enqueue([LONG, 2.0, "\n\n" + LONG, 0.2, "\n\nThe end."])
    ask(tab, "Write much.")
    expect(tab.locator("#live")).to_contain_text("Paragraph 59.")
    tab.wait_for_function(AT_END)
    tab.mouse.move(640, 300)
    tab.mouse.wheel(0, -600)
    tab.wait_for_function(f"() => ({GAP})() > 500")
    wait_for_answer(tab, "The end.")
    assert tab.evaluate(GAP) > 500
    ask(tab, "And now?")
    wait_for_answer(tab, "An answer.")
    tab.wait_for_function(AT_END)


def test_pictures_stand_beside_each_other_and_a_long_name_is_cut(
    open_tab: Open, files: Path, tmp_path: Path
) -> None:
    long = tmp_path / f"{'a_very_long_name_' * 6}.png"
    long.write_bytes((files / "wide.png").read_bytes())
    tab = open_tab()
    chosen = [files / "wide.png", long, files / "tall.png"]
    tab.locator("#box input[type=file]").set_input_files(chosen)
    cards = tab.locator(".tray .image")
    expect(cards).to_have_count(3)
    places = [card.bounding_box() for card in cards.all()]
    assert len({place["y"] for place in places if place}) == 1
    assert len({place["width"] for place in places if place}) == 1


def test_the_choices_of_a_video_stand_on_one_line_of_a_phone(open_tab: Open, files: Path) -> None:
    tab = open_tab(viewport={"width": 390, "height": 844})
    drop(tab, files, "clip.mp4")
    fields = tab.locator(".tray .fields input")
    expect(fields).to_have_count(3)
    places = [field.bounding_box() for field in fields.all()]
    assert len({place["y"] for place in places if place}) == 1


def test_files_held_over_the_page_light_the_box_until_they_leave(open_tab: Open) -> None:
    tab = open_tab()
    fire = """(name) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(['x'], 'a.png', {type: 'image/png'}));
      const options = {dataTransfer, bubbles: true, cancelable: true};
      document.body.dispatchEvent(new DragEvent(name, options));
    }"""
    tab.evaluate(fire, "dragover")
    expect(tab.locator("#asking")).to_have_css("border-top-style", "dashed")
    tab.evaluate(fire, "dragleave")
    expect(tab.locator("#asking")).to_have_css("border-top-style", "solid")


def test_the_badge_of_a_narrow_picture_can_be_read(
    open_tab: Open, served: Served, tmp_path: Path
) -> None:
    Image.new("RGB", (40, 400), "red").save(tmp_path / "narrow.png")
    tab = open_tab()
    tab.locator("#box input[type=file]").set_input_files(tmp_path / "narrow.png")
    expect(tab.locator(".tray .file")).to_have_count(1)
    ask(tab, "What is here?")
    wait_for_answer(tab, "An answer.")
    picture = tab.locator("#history .picture").bounding_box()
    badge = tab.locator("#history .badge").bounding_box()
    assert picture is not None and badge is not None and badge["x"] >= picture["x"]


@pytest.mark.parametrize("width", [1280, 390])
def test_no_words_of_a_refusal_lie_beneath_its_button(
    open_tab: Open, files: Path, width: int
) -> None:
    tab = open_tab(viewport={"width": width, "height": 860})
    drop(tab, files, "words.png")
    words, button = tab.locator(".refused .what"), tab.locator(".refused .remove")
    right = words.evaluate(
        "(words) => Math.max(...[...words.children].flatMap((line) => {"
        " const range = document.createRange(); range.selectNodeContents(line);"
        " return [...range.getClientRects()].map((place) => place.right); }))"
    )
    place = button.bounding_box()
    assert place is not None and right <= place["x"] + 8  # the cross stands in its middle


def test_what_is_folded_away_takes_no_focus(open_tab: Open) -> None:
    tab = open_tab()
    tab.get_by_role("button", name="Settings").focus()
    tab.keyboard.press("Tab")
    inside = "() => Boolean(document.activeElement.closest('#settings .sidebar-content'))"
    assert not tab.evaluate(inside)
    tab.get_by_role("button", name="Settings").press("Enter")
    expect(tab.get_by_label("System prompt")).to_be_visible()
    tab.get_by_role("button", name="Settings").focus()
    tab.keyboard.press("Tab")
    assert tab.evaluate(inside)


def test_the_settings_slide_beneath_their_title(open_tab: Open) -> None:
    tab = open_tab(viewport={"width": 390, "height": 600})
    tab.get_by_role("button", name="Settings").click()
    bar = tab.locator("#settings .sidebar-content")
    title = tab.get_by_role("heading", name="Settings")
    tab.wait_for_function(ON_TOP, arg=title.element_handle())  # once it has slid in
    for y in range(0, 400, 10):
        bar.evaluate("(bar, y) => bar.scrollTo(0, y)", y)
        place = title.bounding_box()
        assert place is not None and 0 <= place["y"] < 60
        assert title.evaluate(ON_TOP), f"something lies on it {y} px down"
