"""Real InternVL models for the planner to be compared with, and a count of their live bytes."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import InternVLConfig, InternVLForConditionalGeneration

from backend.planner.configs import shape_of
from backend.planner.shapes import Shape

SMALL_VISION = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "attention_bias": True,
}
SMALL_TEXT = {
    "model_type": "qwen2",
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 500,
    "eos_token_id": None,
}
PICTURE_TOKEN = 499


def small_config(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, tied: bool = False
) -> InternVLConfig:
    """A small InternVL of usual proportions, with changes."""
    return InternVLConfig(
        vision_config=SMALL_VISION | (vision or {}),
        text_config=SMALL_TEXT | (text or {}),
        image_token_id=PICTURE_TOKEN,
        tie_word_embeddings=tied,
    )


def read_back(config: InternVLConfig) -> Shape:
    """The shape that our reader finds in the configuration as transformers would save it."""
    return shape_of(config.to_dict(), "small")


def build(config: InternVLConfig, dtype: torch.dtype, device: str = "cpu") -> Any:
    """The model with random weights."""
    with torch.device(device):
        return InternVLForConditionalGeneration(config).to(dtype).eval()


class LiveBytes(TorchDispatchMode):
    """Counts the bytes, `now` and at the `peak`, of tensors made in the block while they live."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self.now = 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size
