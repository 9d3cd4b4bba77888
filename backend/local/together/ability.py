"""Which models can answer several requests at once, and which requests take part.

What is not sure to be answered as it would be alone is answered alone. Imports no torch.
"""

from collections.abc import Collection

from backend.conversation import Sampling

ATTENTIONS = ("sdpa", "flash_attention_2", "flash_attention_3")
DEVICES = ("cpu", "cuda")


def must_be_alone(sampling: Sampling) -> bool:
    """Whether a request cannot share a step with others.

    A seed promises the same answer again, and with others about rounding differs; continuous
    batching knows no repetition penalty.
    """
    seeded = sampling.seed is not None and sampling.temperature > 0
    return seeded or sampling.repetition_penalty != 1


def why_one_at_a_time(
    devices: Collection[str], attention: str, quantised: bool, layer_types: Collection[str]
) -> str:
    """Why a loaded model cannot answer several at once; "" if it can.

    `devices` are those its weights lie on, as "cuda:0"; `layer_types` are its decoder layers'.
    """
    if len(set(devices)) != 1:
        return "the model is spread over several devices"
    (device,) = set(devices)
    if device.split(":")[0] not in DEVICES:
        return f"on {device} it was not tried"
    if quantised:
        return "quantised weights round differently for several"
    if attention not in ATTENTIONS:
        return f"attention {attention} cannot read pages"
    if set(layer_types) - {"full_attention"}:
        return "some layers see only a part of what came before"
    return ""
