"""How many bytes may be kept between questions. Arithmetic; knows devices by their names alone."""

from collections.abc import Mapping

from backend.errors import BadSetting
from backend.planner.devices import GB
from backend.planner.plan import Plan
from backend.planner.turn import turn_bytes

SHARE = 4  # of what is spare; the rest is for batches and, on a processor, for other programs
UNTOLD = GB  # where a system does not tell what is free


def kept_bytes(wanted_gb: float | None, plan: Plan, free: Mapping[str, int]) -> int:
    """What was asked for, or a share of what is free beside a question of the planned length.

    `free` tells bytes by the names of the plan's devices, where the system tells them, with the
    weights in place. It is a bound and no reservation: what is kept yields to a question.
    """
    if wanted_gb is not None:
        return int(wanted_gb * GB)
    demand = plan.demand
    needs = turn_bytes(plan, demand.context - 1, 1, demand.tiles)
    spare = [max(0, free[name] - need) for name, need in needs.items() if name in free]
    return sum(spare) // SHARE if spare else UNTOLD


def host_bytes(wanted_gb: float, plan: Plan) -> int:
    """What caches may take of the host's memory once they leave the GPUs.

    Raises `BadSetting` where the model is in that memory itself.
    """
    device = plan.machine.workers[0].name
    if wanted_gb and not device.startswith("cuda"):
        raise BadSetting(
            f"--host-cache-gb is for NVIDIA GPUs, and the model goes to {device}.",
            "Leave it out, and say with --cache-gb how much may be kept.",
        )
    return int(wanted_gb * GB)
