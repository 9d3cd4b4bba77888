"""Dense truth for the vision tower: which form, colour and box covers each patch of a tile."""

import numpy as np
from PIL import Image, ImageDraw

from training.palette import COLOURS, FORMS
from training.scenes import LABEL_SIDE, Scene

GRID = 8
COVERED = 0.2
FORM_CLASSES = len(FORMS) + 1
COLOUR_CLASSES = len(COLOURS) + 1
LABEL_WIDTH = 6


def label_patches(scene: Scene) -> np.ndarray:
    """Float32 [64, 6]: form class, colour class (0 = background), left, top, right, bottom.

    A patch belongs to the shape that covers most of it, if that is a fifth of it or more.
    """
    mask = _shape_mask(scene)
    side = LABEL_SIDE // GRID
    cells = mask.reshape(GRID, side, GRID, side).transpose(0, 2, 1, 3).reshape(GRID * GRID, -1)
    labels = np.zeros((GRID * GRID, LABEL_WIDTH), np.float32)
    best = np.full(GRID * GRID, COVERED * side * side)
    for number, shape in enumerate(scene.shapes, start=1):
        covered = (cells == number).sum(1)
        mine = covered > best
        best[mine] = covered[mine]
        classes = FORMS.index(shape.form) + 1, COLOURS.index(shape.colour) + 1
        labels[mine] = (*classes, *scene.box(shape))
    return labels


def _shape_mask(scene: Scene) -> np.ndarray:
    mask = Image.new("L", (LABEL_SIDE, LABEL_SIDE))
    brush = ImageDraw.Draw(mask)
    across = LABEL_SIDE / scene.picture.width
    down = LABEL_SIDE / scene.picture.height
    for number, shape in enumerate(scene.shapes, start=1):
        brush.polygon([(x * across, y * down) for x, y in shape.corners()], fill=number)
    return np.asarray(mask)
