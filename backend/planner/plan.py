"""The plan: where every module goes, what that costs on each device, and whether it fits.

    demand + machine + strategy  ──▶  Plan: device map, table of bytes, ways out

Pure arithmetic; the map's names are those of transformers' `InternVLForConditionalGeneration`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from backend.errors import BadSetting
from backend.planner.arrange import Arrangement, Arranger
from backend.planner.costs import Demand, reckon
from backend.planner.devices import Machine
from backend.planner.loads import ENDS, SIGHT, Load, load_store
from backend.planner.shapes import LAYERS


class Strategy(StrEnum):
    """How modules are spread."""

    BALANCED = "balanced"  # the fullest device as little full as can be
    CARD = "card"  # as the model card's split_model
    SINGLE = "single"  # one device
    CPU = "cpu"
    OFFLOAD = "offload"  # what does not fit waits in the CPU's memory or on the disk: slow


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything goes. `loads` tells, device by device, what is needed there."""

    demand: Demand
    machine: Machine
    strategy: Strategy
    device_map: Mapping[str, str]  # module → name of its device
    loads: tuple[Load, ...]

    @property
    def fits(self) -> bool:
        """Whether every device has room for its part."""
        return all(load.fits for load in self.loads)

    @property
    def weights_bytes(self) -> int:
        """Weights on all devices together."""
        return sum(load.weights_bytes for load in self.loads)

    @property
    def kv_bytes(self) -> int:
        """Cache on all devices together."""
        return sum(load.kv_bytes for load in self.loads)

    @property
    def activation_bytes(self) -> int:
        """Room to work in on all devices together."""
        return sum(load.activation_bytes for load in self.loads)

    @property
    def used_bytes(self) -> int:
        """Everything on all devices together, reserves included."""
        return sum(load.used_bytes for load in self.loads)


def plan_devices(
    demand: Demand,
    machine: Machine,
    strategy: Strategy = Strategy.BALANCED,
    may_offload: bool = False,
) -> Plan:
    """Place a demand on a machine; with `may_offload` what does not fit goes to a store.

    The plan always places everything; `fits` says whether that can be done. Raises `BadSetting`
    for a machine without a device the strategy could use.
    """
    plan = _place(demand, machine, strategy)
    if plan.fits or not may_offload or strategy is Strategy.OFFLOAD or not machine.stores:
        return plan
    offloaded = _place(demand, machine, Strategy.OFFLOAD)
    return offloaded if offloaded.fits else plan


def _place(demand: Demand, machine: Machine, strategy: Strategy) -> Plan:
    if strategy is Strategy.CPU:
        machine = Machine(cpu=machine.cpu)
    if not machine.workers or (strategy is Strategy.OFFLOAD and not machine.stores):
        raise BadSetting(
            f"There is no device for the strategy {strategy}.",
            "Say what there is, or choose another strategy.",
        )
    bill = reckon(demand)
    arranger = Arranger(bill, demand.shape.text.layers, machine)
    arrangement = {
        Strategy.BALANCED: arranger.balance,
        Strategy.CARD: arranger.follow_card,
        Strategy.SINGLE: arranger.gather,
        Strategy.CPU: arranger.gather,
        Strategy.OFFLOAD: arranger.offload,
    }[strategy]()
    stored = _fill_stores(arranger, arrangement)
    stores = tuple(
        load_store(store, [name for name, place in stored.items() if place == store.name], bill)
        for store in machine.stores
        if stored
    )
    device_map = _map(demand, arranger, arrangement) | stored
    return Plan(demand, machine, strategy, device_map, arranger.load_workers(arrangement) + stores)


def _map(demand: Demand, arranger: Arranger, arrangement: Arrangement) -> dict[str, str]:
    """The device of every module that lies on a worker, in the order of a forward pass.

    The embeddings come first: transformers lets offloaded modules compute on the first device.
    """
    names = [device.name for device in arranger.workers]
    owners = {f"{LAYERS}.{index}": owner for index, owner in enumerate(arrangement.layers)}
    owners |= {module: arrangement.home for module in ENDS}
    if arrangement.vision is not None:
        owners |= {module: arrangement.vision for module in SIGHT}
    return {module: names[owners[module]] for module in demand.shape.modules if module in owners}


def _fill_stores(arranger: Arranger, arrangement: Arrangement) -> dict[str, str]:
    """The store of every other module: the first with room for it, or else the last."""
    depth, stores = arranger.depth, arranger.machine.stores
    waiting = list(SIGHT) if arrangement.vision is None else []
    waiting += [f"{LAYERS}.{index}" for index in range(depth - arrangement.guests, depth)]
    kept: dict[str, list[str]] = {store.name: [] for store in stores}
    for module in waiting:
        roomy = (
            store.name
            for store in stores
            if load_store(store, [*kept[store.name], module], arranger.bill).fits
        )
        kept[next(roomy, stores[-1].name)].append(module)
    return {module: store for store, modules in kept.items() for module in modules}
