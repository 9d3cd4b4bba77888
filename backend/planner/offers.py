"""The menu of models for the page: the bundled one, the seven sizes, and the one given at start.

What each needs comes from shapes alone; whether its files are here, from the hub's cache.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from backend.checkpoint.find import find_checkpoint, name_of, repository_of
from backend.checkpoint.pieces import is_sentencepiece
from backend.checkpoint.reach import find_facts_here, is_here
from backend.errors import EngineError
from backend.offers import Menu, Offer
from backend.planner.advice import smallest_usual_machine
from backend.planner.choose import plan_wanted
from backend.planner.configs import read_shape
from backend.planner.costs import Quantization
from backend.planner.devices import Machine, describe, in_gb
from backend.planner.machine import look_around
from backend.planner.plan import Plan, Strategy
from backend.planner.shapes import Shape
from backend.planner.sizes import SIZES, find_size
from backend.settings import BUNDLED, Settings

EXPERIMENTAL = "experimental"  # held by tests, never tried with weights that were published


class Offers:
    """What may be chosen on this machine instead of the model that `settings` name.

    The machine is taken as `look` finds it now, before a model is loaded: whatever is loaded later
    leaves before the next one comes.
    """

    def __init__(
        self,
        settings: Settings,
        look: Callable[[], Machine] = look_around,
        here: Callable[[str], bool] = is_here,
    ) -> None:
        self._settings = settings
        self._here = here
        # A driver that sleeps takes seconds to answer, and nobody may open the list at all.
        # What goes wrong is told to whoever does.
        self._looking = ThreadPoolExecutor(1, "looking-around").submit(look)

    @property
    def _machine(self) -> Machine:
        return self._looking.result()

    def list(self, quantize: str | None) -> Menu:
        """Every model in a precision."""
        machine = self._machine
        if self._settings.strategy == Strategy.CPU:
            machine = Machine(cpu=machine.cpu)
        wanted = replace(self._settings, quantize=quantize)
        offers = (self._offer(model, wanted) for model in models_beside(self._settings.model))
        return Menu(describe(machine.workers), tuple(offers))

    def _offer(self, model: str, wanted: Settings) -> Offer:
        own = model == wanted.model
        name = name_of(model) if own and find_size(model) is None else model
        settings = wanted
        try:
            shape = shape_of(model)
            if not own:
                settings = replace(wanted, model=model, revision=None, adapter=None)
                settings = replace(settings, context=self._context(shape))
            return self._plan(name, settings, shape)
        except EngineError as error:
            return Offer(name, settings, reason=error.cause)

    def _plan(self, name: str, settings: Settings, shape: Shape | None) -> Offer:
        if shape is None:  # a repository not seen yet: its loading will tell
            return Offer(name, settings, comes="size not known")
        plan = plan_wanted(shape, settings, self._machine)
        fetched = repository_of(settings.model) is None or self._here(settings.model)
        offer = Offer(
            name,
            settings,
            needs=in_gb(plan.used_bytes),
            comes="" if fetched else in_gb(shape.saved_bytes),
            note=EXPERIMENTAL if is_experimental(settings.model, shape) else "",
        )
        return (
            offer
            if plan.fits
            else replace(offer, reason=say_why(plan), remedy=self._mend(plan, settings))
        )

    def _context(self, shape: Shape | None) -> int | None:
        """The context that was given, if another model has so much."""
        given = self._settings.context
        return given if given is None or shape is None or given <= shape.context else None

    def _mend(self, plan: Plan, wanted: Settings) -> str:
        """How this would fit here, or where."""
        settings = replace(wanted, context=plan.demand.context)
        tried = (
            plan_wanted(plan.demand.shape, replace(settings, quantize=quantize), self._machine)
            for quantize in lighter_than(plan.demand.precision.quantize)
        )
        lighter = next((str(one.demand.precision) for one in tried if one.fits), "")
        elsewhere = smallest_usual_machine(plan.demand)
        ways = [f"in {lighter}"] if lighter else []
        if elsewhere:
            ways.append(f"on {describe(elsewhere)}")
        return " or ".join(ways)


def models_beside(given: str) -> tuple[str, ...]:
    """The bundled model, the seven sizes, and the given one in its place if it is one of these."""
    known = {repository_of(size.name): size.name for size in SIZES}
    listed = [BUNDLED, *(size.name for size in SIZES)]
    same = known.get(repository_of(given) or "")
    if same is not None:
        listed[listed.index(same)] = given
    elif given != BUNDLED:
        listed.insert(0, given)
    return tuple(listed)


def shape_of(model: str) -> Shape | None:
    """The shape of a model as far as it can be told without the network; `None` if it cannot.

    Raises `BadCheckpoint` for files here that are of another family or damaged.
    """
    folder = _folder_of(model)
    return read_shape(folder, name_of(model)) if folder else find_size(model)


def is_experimental(model: str, shape: Shape) -> bool:
    """Whether a model is as InternVL3 9B: its tokenizer, or its shape while it is not here."""
    folder = _folder_of(model)
    return is_sentencepiece(folder) if folder else shape.unconfirmed


def _folder_of(model: str) -> Path | None:
    if repository_of(model) is None:
        return find_checkpoint(model, only_facts=True)
    return find_facts_here(model)


def say_why(plan: Plan) -> str:
    """Why a plan does not fit, beside what it needs and what is free in all."""
    free = sum(device.free_bytes for device in plan.machine.workers)
    if in_gb(plan.used_bytes) == in_gb(free):
        return "just too large"
    if plan.used_bytes > free:
        return "too large"
    fullest = max(plan.loads, key=lambda load: load.share)
    holds, has = in_gb(fullest.used_bytes), in_gb(fullest.device.free_bytes)
    return f"{fullest.device.name} would hold {holds} and has {has}"


def lighter_than(quantize: Quantization | None) -> Iterable[Quantization]:
    """Precisions that take less room, the more exact first."""
    kinds = tuple(Quantization)
    return kinds if quantize is None else kinds[kinds.index(quantize) + 1 :]
