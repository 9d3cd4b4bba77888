"""Strategies: which device gets which module.

Decoder layers of a checkpoint are all alike, so a strategy only has to say where the ends
(embeddings, rotary embedding, final norm, head) live, where the vision tower with its projector,
and which device owns each layer. The ends always live together: what goes in and what comes out
meet there, whatever the layers between do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heapreplace

from backend.errors import BadSetting
from backend.planner.card import card_layers
from backend.planner.costs import Bill
from backend.planner.devices import Device, Machine
from backend.planner.loads import SIGHT, Load, Part, load_worker


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A placement on a machine's workers, by their index.

    `layers` names the owner of each decoder layer from the first on. The last `guests` layers
    lie in a store and compute at `home`, as does the vision tower when `vision` is `None`.
    """

    home: int
    vision: int | None
    layers: tuple[int, ...]
    guests: int = 0


@dataclass(frozen=True, slots=True)
class Arranger:
    """The problem: so many decoder layers at this bill on these devices."""

    bill: Bill
    depth: int
    machine: Machine

    @property
    def workers(self) -> tuple[Device, ...]:
        """Where modules compute."""
        return self.machine.workers

    def balance(self) -> Arrangement:
        """The placement whose fullest device is least full.

        The vision tower stays with the ends, where its features go, unless it only fits apart.
        """
        homes, everywhere = self._homes(), range(len(self.workers))
        together = self._least_full(self._spread(Arrangement(home, home, ())) for home in homes)
        if self.fits(together) or len(self.workers) == 1:
            return together
        apart = self._least_full(
            self._spread(Arrangement(home, vision, ()))
            for home in homes
            for vision in everywhere
            if vision != home
        )
        return apart if self.fits(apart) else together

    def follow_card(self) -> Arrangement:
        """Layer for layer the model card's split; raises `BadSetting` where there is no GPU."""
        if not self.machine.gpus:
            raise BadSetting("The card's split is made for GPUs.", "Choose another strategy.")
        return Arrangement(0, 0, tuple(card_layers(self.depth, len(self.workers))))

    def gather(self) -> Arrangement:
        """Everything on the one device that it fills least."""
        return self._least_full(
            Arrangement(worker, worker, (worker,) * self.depth)
            for worker in range(len(self.workers))
        )

    def offload(self) -> Arrangement:
        """As many layers on the workers as they hold, the rest in a store.

        The vision tower goes to the store instead of layers where less lies there then.
        """
        seen, unseen = self._store_layers(seen=True), self._store_layers(seen=False)
        if self.fits(seen) == self.fits(unseen):
            return min(seen, unseen, key=self._stored_bytes)
        return seen if self.fits(seen) else unseen

    def _store_layers(self, seen: bool) -> Arrangement:
        """The fewest layers stored with which the rest fits, or all; the tower `seen` at home."""
        for guests in range(self.depth + 1):
            tried = self._least_full(
                self._spread(Arrangement(home, home if seen else None, (), guests))
                for home in self._homes()
            )
            if self.fits(tried):
                break
        return tried

    def _stored_bytes(self, arrangement: Arrangement) -> int:
        vision = sum(self.bill.weights[name] for name in SIGHT if arrangement.vision is None)
        return vision + arrangement.guests * self.bill.plain_layer

    def fits(self, arrangement: Arrangement) -> bool:
        """Whether every worker has room for its part."""
        return all(load.fits for load in self.load_workers(arrangement))

    def load_workers(self, arrangement: Arrangement) -> tuple[Load, ...]:
        """What every worker carries."""
        return tuple(
            self._load(arrangement, worker, arrangement.layers.count(worker))
            for worker in range(len(self.workers))
        )

    def _load(self, arrangement: Arrangement, worker: int, layers: int) -> Load:
        at_home = worker == arrangement.home
        part = Part(
            ends=at_home,
            vision=worker == arrangement.vision,
            layers=layers,
            guests=arrangement.guests if at_home else 0,
            guest_vision=at_home and arrangement.vision is None,
        )
        return load_worker(self.workers[worker], part, self.bill)

    def _spread(self, draft: Arrangement) -> Arrangement:
        """The draft with its layers given one by one to the device least full with one more.

        Layers being alike and costs only growing, no other distribution has a fullest device
        that is less full. Every device gets one run of layers, home the first.
        """
        counts = [0] * len(self.workers)
        waiting = [(self._load(draft, worker, 1).share, worker) for worker in range(len(counts))]
        heapify(waiting)
        for _ in range(self.depth - draft.guests):
            worker = waiting[0][1]
            counts[worker] += 1
            heapreplace(waiting, (self._load(draft, worker, counts[worker] + 1).share, worker))
        order = sorted(range(len(counts)), key=lambda worker: (worker != draft.home, worker))
        layers = tuple(worker for worker in order for _ in range(counts[worker]))
        return Arrangement(draft.home, draft.vision, layers, draft.guests)

    def _homes(self) -> tuple[int, ...]:
        """The workers that differ in free bytes: of equals, the first stands for all."""
        free = [device.free_bytes for device in self.workers]
        return tuple(worker for worker, size in enumerate(free) if free.index(size) == worker)

    def _least_full(self, arrangements: Iterable[Arrangement]) -> Arrangement:
        return min(
            arrangements,
            key=lambda one: max(load.share for load in self.load_workers(one)),
        )
