"""HTML of the page's small parts: model, progress, notice, budget, welcome. Pure."""

from collections.abc import Sequence
from html import escape

from backend.engine import Progress, State, Status
from backend.prompt.budget import Budget
from ui import words
from ui.abilities import unseen_reasons
from ui.examples import Example
from ui.lines import draw_line
from ui.tray import url_of


def draw_brand() -> str:
    """The page's mark and name."""
    return f'<div class="brand">{MARK}<h1>{words.TITLE}</h1></div>'


def draw_model(status: Status) -> str:
    """Which model answers, where, and whether it can; why in that precision, and what it cannot."""
    line = f"<span>{draw_line(words.model_line(status))}</span>"
    if status.state is State.READY:
        more = (status.why, *unseen_reasons(status.unable))
        line += "".join(f"<span>{escape(one)}</span>" for one in more if one)
    return (
        f'<div class="model {status.state}"><i aria-hidden="true"></i>'
        f"<div><b>{escape(status.model)}</b>{line}</div></div>"
    )


def draw_progress(progress: Progress, status: Status, tiles: int) -> str:
    """What is being waited for; nothing once the answer is being written."""
    line = words.progress_line(progress.stage, progress.ahead, status, tiles)
    return f'<p class="progress"><i aria-hidden="true"></i>{escape(line)}</p>' if line else ""


def draw_finished() -> str:
    """For screen readers, which are not told each word."""
    return f'<p class="unseen">{words.FINISHED}</p>'


def draw_notice(cause: str, advice: str = "", so_far: str = "") -> str:
    """What went wrong and what to do, and the text that had come by then."""
    text = ""
    if so_far:
        text = f"<details><summary>{words.TEXT_SO_FAR}</summary><p>{escape(so_far)}</p></details>"
    return f'<div class="notice"><p><b>{escape(cause)}</b> {escape(advice)}</p>{text}</div>'


def draw_budget(budget: Budget | None) -> str:
    """What the next question would send, in red when it is too much; a hint while nothing is."""
    if budget is None:
        return f'<p class="budget hint">{draw_line(words.HINT)}</p>'
    excess = "" if budget.fits else " excess"
    return f'<p class="budget{excess}">{draw_line(words.budget_line(budget))}</p>'


def draw_welcome(examples: Sequence[Example], abilities: str) -> str:
    """The empty chat: what this is, what the model can, and questions that work in one click."""
    can = "".join(f"<p>{escape(part)}</p>" for part in abilities.split("\n\n") if part.strip())
    cards = "".join(draw_example(number, example) for number, example in enumerate(examples))
    listed = f'<h3>{words.EXAMPLES}</h3><div class="examples">{cards}</div>' if cards else ""
    return (
        f'<section class="welcome"><h2>{words.TAGLINE}</h2>'
        f'<div class="abilities">{can}</div>{listed}</section>'
    )


def draw_example(number: int, example: Example) -> str:
    """One example as a button: its pictures and its question."""
    pictures = "".join(f'<img src="{url_of(path)}" alt="">' for path in example.previews)
    return (
        f'<button type="button" class="example" data-example="{number}">'
        f'<span class="pictures">{pictures}</span><span>{escape(example.question)}</span></button>'
    )


MARK = (
    '<svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">'
    '<rect width="32" height="32" rx="8" fill="#2f55d4"/><g fill="#fff">'
    '<rect x="7" y="7" width="8" height="8" rx="2"/>'
    '<rect x="17" y="7" width="8" height="8" rx="2" opacity=".55"/>'
    '<rect x="7" y="17" width="8" height="8" rx="2" opacity=".55"/>'
    '<circle cx="21" cy="21" r="4"/></g></svg>'
)
