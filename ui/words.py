"""Every sentence the page shows, in one place, so that another language can follow.

Constants are fixed texts; functions put numbers into sentences. Nothing here is HTML and nothing
is escaped: whoever draws a word escapes it.
"""

from backend.conversation import End, Statistics
from backend.engine import Stage, State, Status
from backend.offers import Offer
from backend.prompt.budget import Budget

TITLE = "InternVL3 chat"
TAGLINE = "Drop in pictures or a video, ask, and see exactly what the model sees."
HINT = "Enter sends · Shift + Enter breaks the line · Esc stops"

NEW_CHAT = "New chat"
QUESTION = "Your question"
QUESTION_HINT = "Ask about the pictures …"
ADD_FILES = "Add pictures or a video"
SEND = "Send"
STOP = "Stop"
RETRY = "Retry"
UNDO = "Undo"
CHAT = "Conversation"
LIVE = "Answer being written"
EXAMPLES = "Try one of these"
REMOVE = "Remove"
ENLARGE = "Enlarge"
CLOSE = "Close"
FRAMES = "Frames"
FROM = "From, s"
TO = "To, s"
TILES_AT_MOST = "Max tiles"
UNREADABLE = "Will not be sent"
PENDING = "Tiles are counted as soon as the checkpoint is known."
FINISHED = "The answer is complete."
TEXT_SO_FAR = "The text so far"
THUMBNAIL = "thumbnail"
YOURS = "You asked"

SETTINGS = "Settings"
SYSTEM = "System prompt"
SYSTEM_INFO = "What the model is told before the chat. Empty: the checkpoint's own."
TEMPERATURE = "Temperature"
TEMPERATURE_INFO = "0 always takes the likeliest word; higher is freer."
TOP_P = "Top-p"
TOP_P_INFO = "Only words that together have this probability are considered."
TOP_K = "Top-k"
TOP_K_INFO = "Only this many likeliest words are considered; 0: all."
PENALTY = "Repetition penalty"
PENALTY_INFO = "Above 1, words already used become less likely."
MAX_NEW = "Max new tokens"
MAX_NEW_INFO = "The longest answer; a token is about three quarters of a word."
SEED = "Seed"
SEED_INFO = "The same seed repeats the same answer. Empty: chance."
MAX_TILES = "Max tiles"
MAX_TILES_INFO = "Pieces a picture is cut in; more show more detail. 0: the checkpoint's own."
LAYOUT = "Several pictures"
LAYOUT_INFO = "Numbered one by one, or as one set."
SEPARATE = "separate"
COMBINED = "combined"

CHANGE_MODEL = "Change the model"
CHANGE_ENDS = "A change ends answers that are being written, on every open page."
PRECISION = "Precision"
PRECISION_AUTO = "auto"

ENDS = {
    End.EOS: "finished",
    End.LENGTH: "cut at max new tokens",
    End.STOPPED: "stopped by you",
    End.BROKEN_OFF: "broken off",
}
STOPPED_EARLY = "Stopped before the first word."
STOPPED_EARLY_ADVICE = "Your question and its files are back in the box."
BROKEN = "Something broke in the page."
BROKEN_ADVICE = "Your question is back in the box; try again. If it stays, restart the app."
NO_ADDRESSES = "Only uploaded files can be sent, no addresses. Add the file itself."
ODD_CALL = "This is not what the page sends. Open it anew; programs ask under /v1."
EMPTY_QUESTION = "There is no question yet."
EMPTY_QUESTION_ADVICE = "Write one, or add a picture and ask about it."
OVER_BUDGET = "too much"


def count(number: int, noun: str) -> str:
    """`1 image`, `2 images`, `1,024 tiles`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `11th`."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return str(number) + {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def moment(seconds: float) -> str:
    """Seconds of a video as `0:07.5` or `1:02:03.0`."""
    minutes, rest = divmod(round(max(seconds, 0.0), 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{rest:04.1f}"


def budget_line(budget: Budget) -> str:
    """What would be sent, in pictures, tiles and tokens."""
    parts = [
        count(number, noun)
        for number, noun in (
            (budget.images, "image"),
            (budget.videos, "video"),
            (budget.tiles, "tile"),
        )
        if number
    ]
    text = f"{budget.text:,} text tokens"
    if budget.estimated:
        text = f"about {text} (an estimate: the engine's tokenizer is not known here)"
    tokens = f"{budget.visual:,} visual + {text} of {budget.limit:,}"
    excess = "" if budget.fits else f": {OVER_BUDGET}. {budget.remedy}"
    return " · ".join([*parts, tokens]) + excess


def statistics_line(statistics: Statistics) -> str:
    """What an answer cost and why it ended."""
    parts = [f"{statistics.visual_tokens:,} visual + {statistics.text_tokens:,} text tokens"]
    if statistics.cached_tokens:
        parts.append(f"{statistics.cached_tokens:,} of them read before")
    if statistics.new_tokens:
        parts.append(f"first word {statistics.ttft_s:.2f} s")
    if statistics.tokens_per_s:
        parts.append(f"{statistics.tokens_per_s:.0f} tokens/s")
    parts.append(f"{count(statistics.new_tokens, 'token')} written, {ENDS[statistics.end]}")
    return " · ".join(parts)


def loading(status: Status) -> str:
    """How far the model is, and what takes the time."""
    doing = f": {status.doing}" if status.doing else ""
    return f"Loading {status.model}, {100 * status.share:.0f} %{doing}"


def progress_line(stage: Stage, ahead: int, status: Status, tiles: int) -> str:
    """What a person who waits for an answer waits for; empty while it is written."""
    if status.state is State.LOADING and stage in (Stage.PREPARING, Stage.WAITING):
        return f"{loading(status)} — your question is next when it is ready"
    if stage is Stage.PREPARING:
        return "Opening the files" if tiles else "Preparing"
    if stage is Stage.WAITING:
        return f"{ordinal(ahead + 1)} in line" if ahead else "Next in line"
    if stage is Stage.READING:
        return f"Reading {count(tiles, 'tile')}" if tiles else "Reading"
    return ""


def model_line(status: Status) -> str:
    """Where and how the model runs, or what it is doing instead."""
    if status.state is State.LOADING:
        return f"{loading(status)} — you can already write"
    if status.state is State.FAILED:
        return status.reason or "The model could not be loaded."
    waiting = f"{status.waiting} waiting" if status.waiting else ""
    how = ("ready", status.device, status.precision, status.attention, status.batching, waiting)
    return " · ".join(filter(None, how))


def machine(free: str) -> str:
    """What models have to fit."""
    return f"Free here: {free}"


def offer_lines(offer: Offer, chosen: bool) -> list[str]:
    """What there is to know of a model before it is chosen, beside its name and its room."""
    where = offer.remedy.replace(" × ", "\u00a0×\u00a0").replace(" GB", "\u00a0GB")
    remedy = f"{offer.reason}, fits {where}" if where else offer.reason
    comes = f"needs the hub: {offer.comes}" if offer.comes and offer.fits and not chosen else ""
    lines = ("chosen now" if chosen else "", offer.note, remedy, comes)
    return [line for line in lines if line]


def tiles_of(columns: int, rows: int, tiles: int) -> str:
    """How a picture is cut: `3 × 2 + thumbnail`, or nothing to tell for a single tile."""
    if tiles == 1:
        return ""
    grid = f"{columns} × {rows}"
    return f"{grid} + {THUMBNAIL}" if tiles > columns * rows else grid


def boxes_on(picture: str) -> str:
    """What the picture under an answer shows."""
    return f"{picture} with the boxes of the answer"


def box_line(name: str, corners: tuple[int, int, int, int]) -> str:
    """One box: its name and its corners, px."""
    left, top, right, bottom = corners
    return f"{name or 'unnamed'} · {left}, {top} – {right}, {bottom} px"
