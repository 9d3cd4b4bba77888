"""Whether one question fits beside a model that is loaded: the planner's arithmetic, once more.

Weights are in place by then, so only cache and room to work in are held against what each device
has free at that moment. Knows tokens and tiles, not conversations.
"""

from collections.abc import Mapping
from dataclasses import replace

from backend.errors import OutOfMemory
from backend.planner.costs import Bill, reckon
from backend.planner.devices import Device, in_gb
from backend.planner.loads import FRAGMENTATION, Part, load_worker
from backend.planner.plan import Plan
from backend.planner.shapes import EMBEDDINGS, LAYERS, VISION


def refuse_turn_if_too_big(
    plan: Plan,
    free_bytes: Mapping[str, int],
    prompt_tokens: int,
    new_tokens: int,
    tiles: int,
) -> None:
    """Raise `OutOfMemory`, with the numbers, if a device has no room for this question.

    `free_bytes` tells, by the names of the plan's devices, what is free now; a device it does
    not name is not checked. `tiles` are those of all pictures and frames: the vision tower sees
    no more of them at once than the plan says.
    """
    needs = turn_bytes(plan, prompt_tokens, new_tokens, tiles)
    for name, need in needs.items():
        if need > free_bytes.get(name, need):
            most = most_prompt_tokens(plan, free_bytes, new_tokens, tiles)
            raise OutOfMemory(
                f"This question of {prompt_tokens:,} tokens needs {in_gb(need)} beside the model, "
                f"and {name} has {in_gb(free_bytes[name])} free.",
                f"Ask with at most {most:,} tokens: fewer tiles or frames, or a new conversation."
                if most
                else "Close other programs on that device, or load a smaller checkpoint.",
            )


def turn_bytes(plan: Plan, prompt_tokens: int, new_tokens: int, tiles: int) -> dict[str, int]:
    """Bytes that a question takes beside the weights on each device that computes."""
    bill = _reckon_turn(plan, prompt_tokens, new_tokens, tiles)
    needs = {}
    for device in plan.machine.workers:
        load = load_worker(device, _part(plan, device, tiles > 0), bill)
        passing = load.kv_bytes + load.activation_bytes
        needs[device.name] = passing + int(FRAGMENTATION * passing)
    return needs


def most_prompt_tokens(
    plan: Plan, free_bytes: Mapping[str, int], new_tokens: int, tiles: int
) -> int:
    """The longest prompt that fits with this answer and these tiles; 0 if none does."""

    def fits(tokens: int) -> bool:
        needs = turn_bytes(plan, tokens, new_tokens, tiles)
        return all(need <= free_bytes.get(name, need) for name, need in needs.items())

    low, high = 0, max(0, plan.demand.shape.context - new_tokens)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _reckon_turn(plan: Plan, prompt_tokens: int, new_tokens: int, tiles: int) -> Bill:
    """The prompt is read at once; the cache then grows by the answer."""
    seen_at_once = max(1, min(tiles, plan.demand.tiles))
    prompt = replace(plan.demand, context=prompt_tokens, tiles=seen_at_once)
    whole = replace(prompt, context=prompt_tokens + new_tokens)
    return replace(reckon(prompt), kv_layer=reckon(whole).kv_layer)


def _part(plan: Plan, device: Device, sees: bool) -> Part:
    """What a device was given by a plan; without pictures the vision tower rests."""
    owners = {name: owner for name, owner in plan.device_map.items() if name.startswith(LAYERS)}
    workers = {worker.name for worker in plan.machine.workers}
    at_home = plan.device_map[EMBEDDINGS] == device.name
    tower = plan.device_map[VISION]
    return Part(
        ends=at_home,
        vision=sees and tower == device.name,
        layers=[*owners.values()].count(device.name),
        guests=sum(owner not in workers for owner in owners.values()) if at_home else 0,
        guest_vision=sees and at_home and tower not in workers,
    )
