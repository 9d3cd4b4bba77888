"""What is learnt from: the answers' tokens, and what covers each patch of a tile."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.labels import COLOUR_CLASSES, FORM_CLASSES
from training.lessons import Lesson
from training.network import Network
from training.sequences import pad_rows
from training.tokenizer import Codec

PATCH_CLASSES = FORM_CLASSES + COLOUR_CLASSES + 4
BACKGROUND_WEIGHT = 0.15
BOX_WEIGHT = 8.0


def patch_loss(network: Network, seen: Tensor, labels: list[np.ndarray | None]) -> Tensor:
    """How badly the picture tokens tell form, colour and box of what covers each patch."""
    assert network.patch_head is not None
    labelled = [number for number, label in enumerate(labels) if label is not None]
    # A token holds 2 x 2 patches: [tiles, 4, 2, 4, 2, ...] to [tiles, 4, 4, 2, 2, ...].
    truth = np.stack([labels[number] for number in labelled])
    truth = truth.reshape(len(labelled), 4, 2, 4, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    target = torch.from_numpy(np.ascontiguousarray(truth)).reshape(-1, truth.shape[-1])
    told = network.patch_head(seen[labelled]).reshape(len(target), -1)
    form, colour, box = told.split((FORM_CLASSES, COLOUR_CLASSES, 4), -1)
    loss = _weigh(form, target[:, 0].long()) + _weigh(colour, target[:, 1].long())
    covered = target[:, 0] > 0
    return loss + BOX_WEIGHT * (box[covered] - target[covered, 2:]).abs().sum() / max(
        1, covered.sum() * 4
    )


def _weigh(told: Tensor, target: Tensor) -> Tensor:
    """Cross entropy in which the many background patches count little."""
    weight = torch.where(target > 0, 1.0, BACKGROUND_WEIGHT)
    return (functional.cross_entropy(told, target, reduction="none") * weight).sum() / weight.sum()


def answer_loss(
    network: Network, codec: Codec, lessons: list[Lesson], seen: Tensor | None
) -> Tensor:
    """Cross entropy of the answers' tokens; `seen` is `None` when no lesson has a picture."""
    arrays = pad_rows(codec, [lesson.row for lesson in lessons])
    logits = network.read(
        torch.from_numpy(arrays.ids),
        seen,
        torch.from_numpy(arrays.pictures_at),
        torch.from_numpy(arrays.segments),
        torch.from_numpy(arrays.positions),
        torch.from_numpy(arrays.predicting),
    )
    return functional.cross_entropy(logits, torch.from_numpy(arrays.targets))
