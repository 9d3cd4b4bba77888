"""What the page may change the model to: models with what each needs and whether it fits.

Whoever knows the machine fills these in; the page draws them and hands a choice back.
"""

from dataclasses import dataclass

from backend.settings import Settings


@dataclass(frozen=True, slots=True)
class Offer:
    """One model. `settings` are what to load it with; `reason` says why it cannot be, if so."""

    name: str
    settings: Settings
    needs: str = ""  # room, as "6.5 GB"; "" if not known
    comes: str = ""  # what has to be fetched from the hub, as "4.2 GB"; "" if it is here
    reason: str = ""
    remedy: str = ""  # what would fit, or where
    note: str = ""  # as "experimental"

    @property
    def fits(self) -> bool:
        """Whether it can be chosen."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Menu:
    """All that can be chosen in one precision, on a machine such as "2 × 24 GB"."""

    machine: str
    offers: tuple[Offer, ...]
