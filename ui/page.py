"""The page: every component in reading order, then every wire. No logic lives here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gradio as gr

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import MAX_NEW_TOKENS, MOST_TILES
from backend.engine import Engine
from backend.offers import Picker
from backend.prompt.compose import Composer
from backend.settings import Settings
from ui import words
from ui.box import LOADING_S, BoxHandlers
from ui.examples import FOLDER, Example, read_abilities, read_examples
from ui.frame import Frame
from ui.handlers import ChatHandlers
from ui.panels import draw_brand, draw_budget, draw_model, draw_welcome
from ui.picker import PickHandlers, make_picker
from ui.sessions import Sessions
from ui.view import NAMES

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
    {"left": "$", "right": "$", "display": False},
]
QUEUE_LOOK_S = 0.02
FILES_KEPT_S = 24 * 3600  # an upload older than this is deleted, looked for every hour
QUIET: dict[str, Any] = {"show_progress": "hidden"}
PRIVATE: dict[str, Any] = {**QUIET, "queue": False, "api_visibility": "private"}

# What gr.HTML runs once it stands on the page: a press or a change inside it becomes an event.
TRAY_SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-remove]');
  if (button) trigger('delete', {key: Number(button.dataset.remove)});
});
element.addEventListener('change', (event) => {
  const field = event.target.closest('[data-choose]');
  if (field) trigger('input', {
    key: Number(field.dataset.key), choose: field.dataset.choose, value: field.value});
});
"""
WELCOME_SCRIPT = """
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-example]');
  if (card) trigger('select', {example: Number(card.dataset.example)});
});
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """The components that handlers read or change."""

    history: gr.Chatbot
    live: gr.Chatbot
    progress: gr.HTML
    notice: gr.HTML
    tray: gr.HTML
    question: gr.Textbox
    budget: gr.HTML
    welcome: gr.HTML
    send: gr.Button
    stop: gr.Button
    actions: gr.Row
    model: gr.HTML
    picker: gr.HTML | None
    timer: gr.Timer
    fresh: gr.Button
    retry: gr.Button
    undo: gr.Button
    files: gr.UploadButton
    settings: tuple[Any, ...]

    @property
    def view(self) -> list[Any]:
        """The parts in the order of `ui.view.View`."""
        return [getattr(self, name) for name in NAMES]


def build_page(
    engine: Engine,
    composer: Callable[[], Composer | None],
    settings: Settings,
    sessions: Sessions | None = None,
    picker: Picker | None = None,
) -> gr.Blocks:
    """The page that asks `engine`; `composer` gives the checkpoint's facts once they are known.

    With a `picker` the page can change the model.
    """
    sessions = Sessions() if sessions is None else sessions  # an empty one is falsy

    @lru_cache(maxsize=1)  # a model that was left is held by nobody
    def known_examples(known: Composer) -> tuple[Example, ...]:
        known.media.prepare()  # somebody is here, and may bring a video
        # They are of what the bundled model knows.
        bundled = known.facts.folder == BUNDLED_FOLDER
        return read_examples(FOLDER, known.media) if bundled else ()

    def examples() -> tuple[Example, ...]:
        known = composer()
        return known_examples(known) if known else ()

    def welcome() -> str:
        known = composer()
        return draw_welcome(examples(), read_abilities(known.facts.folder) if known else "")

    page: gr.Blocks = Frame(
        title=words.TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(3600, FILES_KEPT_S),
    )
    with page:
        parts = lay_out(draw_model(engine.status()), picker is not None)
        box = BoxHandlers(engine, composer, sessions, welcome)
        chat = ChatHandlers(engine, composer, sessions, examples)
        wire_box(page, parts, box)
        if picker is not None and parts.picker is not None:
            pick = PickHandlers(engine, picker, sessions)
            changed = [parts.picker, parts.model, parts.notice, parts.timer]
            parts.picker.select(pick.press, None, changed, **PRIVATE)
        wire_chat(page, parts, chat, box)
    page.queue(max_size=None, api_open=False, default_concurrency_limit=None)
    # Gradio 6.31 looks 1,000 times a second whether an event waits, and has no setting for it.
    page._queue.sleep_when_free = QUEUE_LOOK_S
    page._queue.progress_update_sleep_when_free = 1.0  # nothing here has a gr.Progress
    return page


def make_html(value: str, name: str, script: str | None = None) -> gr.HTML:
    """A part drawn by our own HTML and stylesheet."""
    return gr.HTML(value, elem_id=name, js_on_load=script, apply_default_css=False)


def lay_out(model: str, pick: bool) -> Parts:
    """Every component, in reading order: side, chat, box, settings."""
    with gr.Sidebar(label=words.TITLE, open=True, width=248, elem_id="side"):
        make_html(draw_brand(), "brand")
        fresh = gr.Button(words.NEW_CHAT, elem_id="fresh")
        status = make_html(model, "model")
        picker = make_picker() if pick else None
    with gr.Column(elem_id="reading"):
        welcome = make_html(draw_welcome((), ""), "welcome", WELCOME_SCRIPT)
        history = make_chat("history", words.CHAT)
        live = make_chat("live", words.LIVE)
        progress = make_html("", "progress")
        with gr.Row(visible=False, elem_id="actions") as actions:
            retry = gr.Button(words.RETRY, elem_id="retry", size="sm", min_width=0)
            undo = gr.Button(words.UNDO, elem_id="undo", size="sm", min_width=0)
    with gr.Column(elem_id="box"):
        notice = make_html("", "notice")
        tray = make_html("", "tray", TRAY_SCRIPT)
        with gr.Row(elem_id="asking"):
            files = gr.UploadButton(
                words.ADD_FILES, file_count="multiple", elem_id="files", min_width=0, scale=0
            )
            question = make_question()
            send = gr.Button(words.SEND, variant="primary", elem_id="send", min_width=0, scale=0)
            stop = gr.Button(words.STOP, visible=False, elem_id="stop", min_width=0, scale=0)
        budget = make_html(draw_budget(None), "budget")
    with gr.Sidebar(
        label=words.SETTINGS, open=False, width=320, position="right", elem_id="settings"
    ):
        choices = lay_out_settings()
    timer = gr.Timer(LOADING_S)
    return Parts(
        history, live, progress, notice, tray, question, budget, welcome, send, stop, actions,
        status, picker, timer, fresh, retry, undo, files, choices,
    )  # fmt: skip


def make_chat(name: str, label: str) -> gr.Chatbot:
    """A chat as high as its text: the page scrolls, not a box in it."""
    return gr.Chatbot(
        elem_id=name,
        label=label,
        show_label=False,
        container=False,
        height=None,
        autoscroll=False,
        latex_delimiters=LATEX,
        buttons=["copy"],
        group_consecutive_messages=False,
        feedback_options=None,
        sanitize_html=True,
        allow_tags=True,
        allow_file_downloads=False,
    )


def make_question() -> gr.Textbox:
    """The box for words: Enter sends, Shift+Enter breaks the line."""
    return gr.Textbox(
        "",
        label=words.QUESTION,
        show_label=False,
        container=False,
        placeholder=words.QUESTION_HINT,
        lines=1,
        max_lines=10,
        autofocus=True,
        elem_id="question",
        html_attributes=gr.InputHTMLAttributes(enterkeyhint="send"),
    )


def lay_out_settings() -> tuple[Any, ...]:
    """The settings, in the order in which `ui.choices.read_choices` takes them."""
    make_html(f"<h2>{words.SETTINGS}</h2>", "settings-title")
    return (
        gr.Textbox("", label=words.SYSTEM, info=words.SYSTEM_INFO, lines=3, max_lines=12),
        gr.Slider(0, 2, 0, step=0.05, label=words.TEMPERATURE, info=words.TEMPERATURE_INFO),
        gr.Slider(0.01, 1, 1, step=0.01, label=words.TOP_P, info=words.TOP_P_INFO),
        gr.Slider(0, 200, 0, step=1, label=words.TOP_K, info=words.TOP_K_INFO),
        gr.Slider(0.8, 2, 1, step=0.01, label=words.PENALTY, info=words.PENALTY_INFO),
        gr.Number(
            MAX_NEW_TOKENS,
            label=words.MAX_NEW,
            info=words.MAX_NEW_INFO,
            precision=0,
        ),
        gr.Textbox("", label=words.SEED, info=words.SEED_INFO, max_lines=1, max_length=10),
        gr.Slider(0, MOST_TILES, 0, step=1, label=words.MAX_TILES, info=words.MAX_TILES_INFO),
        gr.Radio(
            [words.SEPARATE, words.COMBINED],
            value=words.SEPARATE,
            label=words.LAYOUT,
            info=words.LAYOUT_INFO,
        ),
    )


def wire_box(page: gr.Blocks, parts: Parts, box: BoxHandlers) -> None:
    """Files, choices, the budget, and how the model is."""
    tray = [parts.tray, parts.notice]
    weigh: dict[str, Any] = {
        "fn": box.weigh,
        "inputs": [parts.question, *parts.settings],
        "outputs": parts.budget,
        "trigger_mode": "always_last",
        **PRIVATE,
    }
    parts.files.upload(
        box.add, parts.files, [*tray, parts.files], api_name="add", queue=False, **QUIET
    ).then(**weigh)
    parts.tray.input(box.choose, None, tray, **PRIVATE).then(**weigh)
    parts.tray.delete(box.remove, None, parts.tray, **PRIVATE).then(**weigh)
    gr.on([parts.question.input, *(part.change for part in parts.settings)], **weigh)
    how = [parts.model, parts.tray, parts.welcome, parts.budget, parts.timer, parts.files]
    how.extend(parts.settings)
    parts.timer.tick(box.look, None, how, **PRIVATE)
    page.load(box.look, None, how, **PRIVATE)


def wire_chat(page: gr.Blocks, parts: Parts, chat: ChatHandlers, box: BoxHandlers) -> None:
    """Ask, example, retry, stop, undo, new chat, and a closed tab."""
    settings = list(parts.settings)
    at_once: dict[str, Any] = {"outputs": parts.view, "queue": False, **QUIET}
    asked = gr.on(
        [parts.send.click, parts.question.submit],
        chat.ask,
        [parts.question, *settings],
        api_name="ask",
        trigger_mode="multiple",
        **at_once,
    )
    tried = parts.welcome.select(chat.try_example, settings, api_visibility="private", **at_once)
    retried = parts.retry.click(chat.retry, settings, api_name="retry", **at_once)
    undone = parts.undo.click(chat.undo, parts.question, api_name="undo", **at_once)
    cleared = parts.fresh.click(chat.clear, None, api_name="clear", **at_once)
    parts.stop.click(chat.stop, None, None, api_name="stop", queue=False, **QUIET)
    weigh: dict[str, Any] = {
        "fn": box.weigh,
        "inputs": [parts.question, *settings],
        "outputs": parts.budget,
        **PRIVATE,
    }
    streamed = [parts.live, parts.progress]
    for begun, public in ((asked, True), (tried, False), (retried, False)):
        names: list[dict[str, Any]] = [{"api_visibility": "private"}] * 2
        if public:
            names = [{"api_name": "follow"}, {"api_name": "settle"}]
        followed = begun.then(
            chat.follow, None, streamed, concurrency_limit=None, **QUIET, **names[0]
        )
        followed.then(chat.settle, None, **at_once, **names[1]).then(**weigh)
    undone.then(**weigh)
    cleared.then(**weigh)
    page.unload(chat.stop)
