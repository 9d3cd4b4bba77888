"""Settings of a run: made once from the command line, checked, frozen, handed down.

Knows no parser and no environment: `terminal.arguments` fills it in.
"""

import re
from dataclasses import dataclass, field

from backend.conversation import MOST_FRAMES, check_range
from backend.errors import BadSetting

BUNDLED = "bundled"
FRAMES = 8  # of a video unless chosen otherwise: the model card's example
DECODERS = ("av", "decord")
EXACT, FAST = "exact", "fast"
TILINGS = (EXACT, FAST)
AUTO = "auto"
DTYPES = (AUTO, "bfloat16", "float16", "float32")
ON, OFF = "on", "off"
BATCHINGS = (AUTO, ON, OFF)
COMPILINGS = (AUTO, ON, OFF)
ATTENTIONS = (AUTO, "sdpa", "flash_attention_2", "flash_attention_3", "eager")
QUANTIZATIONS = ("int8", "nf4")
STRATEGIES = ("balanced", "card", "single", "cpu")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LEAST_CONTEXT = 256  # tokens: the system prompt alone takes some fifty


@dataclass(frozen=True, slots=True)
class Settings:
    """What the person who starts the app decided."""

    model: str = BUNDLED  # a size as "2B", "auto", a hub id, a folder, or what is in assets/
    host: str = "127.0.0.1"
    port: int = 7860
    pick: bool | None = None  # whether the page may change the model; None: if nobody else is there
    max_queue: int = 16  # requests waiting at most, the running one not counted
    decoder: str = "av"
    tiling: str = EXACT  # fast: large pictures are cut quicker and nearly right
    frames: int = FRAMES
    revision: str | None = None  # of a hub repository: a branch, a tag or a commit
    dtype: str = AUTO
    quantize: str | None = None
    adapter: str | None = None  # folder of a LoRA adapter to put onto the model
    attention: str = AUTO
    batching: str = AUTO  # whether several requests are answered at once
    compile: str = AUTO  # whether the steps of answers given alone are compiled
    side_by_side: bool = False  # whether rows of a file are asked, which share no beginning
    cache_gb: float | None = None  # what is kept for later questions at most; None: what is spare
    host_cache_gb: float = 0.0  # of the host's memory, for caches that leave the GPU
    context: int | None = None  # tokens, prompt and answer together; None: the checkpoint's
    strategy: str = "balanced"
    offload: bool = False  # what does not fit may lie off the device that computes
    engines: tuple[str, ...] = ()  # addresses of engines elsewhere; none and no list: the local one
    engines_file: str | None = None  # that lists such addresses, and may change
    api_key_file: str | None = None  # that holds the key those engines want; never the key itself
    root_path: str = ""  # where a proxy serves the page: "/chat" or "https://host/chat"
    door_keys: tuple[str, ...] = field(default=(), repr=False)  # of programs; none: any may ask
    allow_picture_urls: bool = False  # whether programs may name pictures on the internet

    @property
    def remote(self) -> bool:
        """Whether engines elsewhere answer."""
        return bool(self.engines or self.engines_file)

    @property
    def may_pick(self) -> bool:
        """Whether the page may change the model, which it does for everybody that it serves."""
        alone = self.host in LOOPBACK and not self.root_path
        return not self.remote and (alone if self.pick is None else self.pick)

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise BadSetting("No model is named.", f"Give a size as 2B, a folder, or {BUNDLED}.")
        if self.pick and self.remote:
            raise BadSetting(
                "The page cannot change the model of an engine elsewhere.", "Leave --pick out."
            )
        check_range("port", self.port, 0, 65_535)
        _check_root_path(self.root_path)
        check_range("queue length", self.max_queue, 1, 10_000)
        check_range("number of frames", self.frames, 1, MOST_FRAMES)
        check_range("size of the cache in GB", self.cache_gb, 0, 1_000_000)
        check_range("size of the host's cache in GB", self.host_cache_gb, 0, 1_000_000)
        check_range("context", self.context, LEAST_CONTEXT, 10_000_000)
        _check_choice("decoder", self.decoder, DECODERS)
        _check_choice("tiling", self.tiling, TILINGS)
        _check_choice("dtype", self.dtype, DTYPES)
        _check_choice("attention", self.attention, ATTENTIONS)
        _check_choice("batching", self.batching, BATCHINGS)
        _check_choice("compiling", self.compile, COMPILINGS)
        _check_choice("strategy", self.strategy, STRATEGIES)
        if self.quantize is not None:
            _check_choice("quantisation", self.quantize, QUANTIZATIONS)


def _check_root_path(path: str) -> None:
    if path and not re.fullmatch(r"(https?://[\w.:\[\]-]+)?(/[\w.~-]+)*/?", path, re.ASCII):
        raise BadSetting(
            f"{path!r} is no place to serve the page at.",
            "Write --root-path as /chat or https://host/chat.",
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadSetting(f"There is no {name} {value!r}.", f"Choose from {', '.join(choices)}.")
