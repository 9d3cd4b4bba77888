"""Lets torchvision's wheel, built for GPUs, be imported beside a torch for processors.

Its compiled parts do not load there: nothing can be registered for operators that are missing,
and pictures are decoded with Pillow instead. Python runs this at its start when the folder is on
PYTHONPATH; it is for `transformers serve` in tests alone, where its own torch fits it changes
nothing.
"""

import io
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def decode_image(data: Any, mode: object = None, apply_exif_orientation: bool = False) -> Any:
    """What `torchvision.io.decode_image` gives: uint8 [3, height, width]."""
    import numpy
    import torch
    from PIL import Image, ImageOps

    picture = Image.open(io.BytesIO(bytes(data.numpy())))
    if apply_exif_orientation:
        ImageOps.exif_transpose(picture, in_place=True)
    pixels = numpy.array(picture.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def tolerate_missing_operators() -> None:
    """Registering a kernel for an operator that was not loaded does nothing."""
    import torch.library

    register = torch.library.register_fake

    def register_fake(operator: Any, *given: Any, **named: Any) -> Any:
        if isinstance(operator, str) and operator.startswith("torchvision::"):
            return lambda kernel: kernel
        return register(operator, *given, **named)

    torch.library.register_fake = register_fake


class Loading(Loader):
    """Loads `torchvision.io.image`, then puts the decoder in if it has none."""

    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        if not module._has_image_ops():  # type: ignore[attr-defined]
            module.decode_image = decode_image  # type: ignore[attr-defined]


class Finder(MetaPathFinder):
    """Steps in when torchvision is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name == "torchvision":
            tolerate_missing_operators()
        if name != "torchvision.io.image":
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = Loading(spec.loader)
        return spec


sys.meta_path.insert(0, Finder())
