"""How much one batch may hold: places, and pages for keys and values, in a bounded memory."""

from collections.abc import Callable
from dataclasses import dataclass

from backend.planner.devices import CPU
from backend.planner.plan import Plan
from backend.planner.turn import turn_bytes

PLACES = 8  # requests at once; chosen, as the numbers below are, and not measured
PLACES_ON_GPU = 16
PAGE = 32  # tokens: what questions that begin alike share comes in whole pages
CHUNK = 512  # tokens read in a step, so that a long question does not hold up those who write
USUAL = 4096  # tokens of a question with its answer, for which every place has room
SHARE = 2  # of what is free beside one question of the longest kind, a batch takes a half


@dataclass(frozen=True, slots=True)
class Size:
    """A batch's limits."""

    places: int
    pages: int
    page: int = PAGE
    chunk: int = CHUNK
    usual: int = USUAL

    @property
    def tokens(self) -> int:
        """Tokens that can be held at once."""
        return self.pages * self.page


def places_on(name: str) -> int:
    """Requests at once at most, by the name of the device that computes."""
    return PLACES if name == CPU else PLACES_ON_GPU


def bytes_per_token(plan: Plan) -> int:
    """Keys and values of one token, and the features that it may stand for."""
    shape, element = plan.demand.shape, plan.demand.precision.element
    return (2 * shape.text.kv_width * shape.text.layers + shape.text.hidden) * element


def fit(plan: Plan, context: int, free_on: Callable[[str], int]) -> Size:
    """The size for a loaded model of this plan; `free_on` tells what a device has free by now.

    What one question of the planned length takes stays free: some are answered alone. There may
    be no pages at all.
    """
    used = set(plan.device_map.values())
    name = next(iter(used))
    places = places_on(name)
    needs = turn_bytes(plan, plan.demand.context - 1, 1, plan.demand.tiles)
    if len(used) > 1 or name not in needs:
        return Size(places, 0)
    wanted = places * min(context, USUAL)
    spare = max(0, free_on(name) - needs[name]) // SHARE
    return Size(places, min(wanted, spare // bytes_per_token(plan)) // PAGE)
