"""The model card's own split of decoder layers over GPUs, layer for layer."""

from math import ceil

from backend.errors import BadSetting


def card_layers(decoder_layers: int, gpus: int) -> list[int]:
    """The GPU of every decoder layer, as the card's `split_model` assigns it.

    The first GPU counts half, since it holds the vision tower; the last layer goes back to it,
    where the head is. Layers that the card's rounding names beyond the last do not exist here.
    """
    if decoder_layers < 1 or gpus < 1:
        raise BadSetting(
            f"The card's split cannot put {decoder_layers} layers on {gpus} GPUs.",
            "It needs at least one of each; choose another strategy.",
        )
    full = ceil(decoder_layers / (gpus - 0.5))
    counts = [ceil(full * 0.5)] + [full] * (gpus - 1)
    owners = [gpu for gpu, layers in enumerate(counts) for _ in range(layers)]
    return [*owners[: decoder_layers - 1], 0]
