"""What the app does on its own account: the size `auto` means here, and how a Space starts it.

A Hugging Face Space runs `python app.py` without words and expects a page on port 7860 of every
address; what its environment means is known here.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from backend.checkpoint.reach import can_be_fetched, is_here
from backend.planner.choose import choose_sizes
from backend.planner.devices import Machine, describe
from backend.planner.machine import look_around
from backend.planner.shapes import Shape
from backend.settings import AUTO, BUNDLED, Settings

SPACE = "SPACE_ID"  # set in every Space: huggingface.co/docs/hub/spaces-overview
LENDING = "SPACES_ZERO_GPU"  # set where GPUs are lent: spaces 0.51, config.py
WORDS_OF_A_SPACE = ("--host", "0.0.0.0", "--port", "7860", "--model", AUTO)
# No GPU is seen there before one is lent. This size is moved onto it in seconds.
MODEL_TO_LEND_FOR = "8B"


def words_of_host(environment: Mapping[str, str]) -> Sequence[str]:
    """What a host that says nothing means: in a Space its address and a model that fits."""
    if not environment.get(SPACE):
        return ()
    lent = ("--model", MODEL_TO_LEND_FOR) if lends_gpus(environment) else ()
    return (*WORDS_OF_A_SPACE, *lent)


def lends_gpus(environment: Mapping[str, str]) -> bool:
    """Whether this is a ZeroGPU Space, which lends a GPU to each answer."""
    return environment.get(LENDING, "").lower() in ("1", "t", "true")


def settle_model(
    settings: Settings,
    look: Callable[[], Machine] = look_around,
    here: Callable[[str], bool] = is_here,
    fetchable: Callable[[str, int], bool] = can_be_fetched,
) -> Settings:
    """The settings with the size that `auto` means on this machine, told on stderr.

    The largest that fits and can be had; without a hub the largest of those that are here
    already; and where nothing fits or can be had, the bundled one.
    """
    if settings.model != AUTO:
        return settings
    if settings.remote:  # engines elsewhere have their models, and say which
        return replace(settings, model=BUNDLED)
    machine = look()
    sizes = choose_sizes(settings, machine)
    model = _first_to_be_had(sizes, here, fetchable)
    if not sizes:
        reason = "no other size fits"
    elif model == BUNDLED:
        reason = f"{sizes[0].name} would fit but cannot be fetched"
    else:
        reason = "the largest that fits and can be had"
    print(f"--model auto is {model} on {describe(machine.workers)}: {reason}.", file=sys.stderr)
    return replace(settings, model=model)


def _first_to_be_had(
    sizes: Sequence[Shape], here: Callable[[str], bool], fetchable: Callable[[str, int], bool]
) -> str:
    if not sizes:
        return BUNDLED
    largest = sizes[0]
    # The hub is asked once: where it is not reached, every further question would wait too.
    if here(largest.name) or fetchable(largest.name, largest.saved_bytes):
        return largest.name
    return next((shape.name for shape in sizes if here(shape.name)), BUNDLED)
