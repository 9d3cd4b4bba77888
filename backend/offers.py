"""What the page may change the model to: models with what each needs and whether it fits.

Whoever knows the machine fills these in; the page draws them and hands a choice back.
"""

from collections.abc import Callable
from dataclasses import dataclass

from backend.settings import Settings


@dataclass(frozen=True, slots=True)
class Offer:
    """One model. `settings` are what to load it with; `reason` says why it cannot be, if so."""

    name: str
    settings: Settings
    needs: str = ""  # room, as "6.5 GB"; "" if not known
    comes: str = ""  # what has to be fetched from the hub, as "4.2 GB"; "" if it is here
    note: str = ""  # what to know of it before it is chosen, as "experimental"
    reason: str = ""
    remedy: str = ""  # how or where it would fit, as "in nf4 or on 2 × 48 GB"

    @property
    def fits(self) -> bool:
        """Whether it can be chosen."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Menu:
    """All that can be chosen in one precision, on a machine such as "2 × 24 GB"."""

    machine: str
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Picker:
    """How the page changes the model: the menu of a precision, what is chosen, and choosing."""

    menu: Callable[[str | None], Menu]
    chosen: Callable[[], Settings]
    choose: Callable[[Settings], bool]
