"""Compiled decoding: whether a model's steps are compiled, and the cache of fixed size they need.

transformers' `generate` compiles the step after the first token where the cache never changes its
shape. What is kept between questions does: its beginning is copied into the fixed cache, and what
was read and written out of it. It knows no questions.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import CompileConfig, InternVLForConditionalGeneration
from transformers.cache_utils import Cache, DynamicCache, StaticCache

from backend.errors import BadSetting
from backend.local.loaded import places_of
from backend.local.quantization import quantization_of
from backend.settings import AUTO, OFF, ON

# Tokens: the cache grows by so many. Attention is computed over all of it, needed or not. The
# second size is compiled anew, and then for all sizes.
GRAIN = 512
COMPILER = "inductor"


class Compiled:
    """Compiled steps, and their cache. Used by the model's thread alone."""

    def __init__(
        self, network: InternVLForConditionalGeneration, compiler: str | Callable[..., Any]
    ) -> None:
        self._text = network.config.get_text_config(decoder=True)
        on_gpu = network.device.type == "cuda"
        # CUDA graphs are what pays most there; the processor has none.
        config: Any = CompileConfig(
            backend=compiler, mode="reduce-overhead" if on_gpu else "default"
        )
        config._compile_all_devices = True  # else it is skipped in silence on a processor
        self.config = config
        self._cache: Any = None

    def enter(self, kept: DynamicCache, tokens: int) -> StaticCache:
        """The fixed cache, with room for so many tokens, holding what `kept` holds."""
        size = tokens + spare(tokens)
        if self._cache is None or self._cache.layers[0].max_cache_len < size:
            self._cache = None  # before there is another
            self._cache = StaticCache(config=self._text, max_cache_len=size)
        self._cache.reset()
        layers: list[Any] = kept.layers
        for layer, fixed in zip(layers, self._cache.layers, strict=False):  # a new one has none
            if layer.is_initialized:
                fixed.update(layer.keys, layer.values)
        return self._cache  # type: ignore[no-any-return]

    def free(self) -> bool:
        """Free the fixed cache; false if there is none."""
        had = self._cache is not None
        self._cache = None
        return had


def spare(tokens: int) -> int:
    """Tokens beyond so many that a fixed cache has room for."""
    return -tokens % GRAIN


def leave(cache: Cache) -> DynamicCache:
    """A cache of what `cache` holds that may grow: itself, or a copy if it is a fixed one."""
    if isinstance(cache, DynamicCache):
        return cache
    layers: list[Any] = cache.layers
    left = DynamicCache()
    if all(fixed.is_initialized for fixed in layers):  # else it was ended before the last layer
        for number, fixed in enumerate(layers):
            held = int(fixed.cumulative_length)
            left.update(
                fixed.keys[..., :held, :].clone(), fixed.values[..., :held, :].clone(), number
            )
    return left


def open_compiled(
    wanted: str,
    network: InternVLForConditionalGeneration,
    batched: bool,
    compiler: str | Callable[..., Any] = COMPILER,
) -> Compiled | None:
    """Compiled steps for a model, if they are wanted and can be.

    Raises `BadSetting`, with the reason, when they are insisted on and cannot be.
    """
    if wanted == OFF or (wanted == AUTO and why_not_worth_it(network.device, batched)):
        return None
    reason = why_not(network)
    if reason and wanted == ON:
        raise BadSetting(f"--compile on cannot be had: {reason}.", "Leave it out.")
    return None if reason else Compiled(network, compiler)


def why_not_worth_it(device: torch.device, batched: bool) -> str:
    """Why compiling does not pay by itself; "" if it does."""
    if device.type != "cuda":
        return f"on {device.type} it takes minutes and saves little"
    if batched:
        return "several are answered at once, whose steps are not compiled"
    return ""


def why_not(network: InternVLForConditionalGeneration) -> str:
    """Why a model's steps cannot be compiled; "" if they can."""
    if len(places_of(network)) != 1:
        return "the model is spread over several devices"
    if quantization_of(network) is not None:
        return "bitsandbytes' matrices cannot be compiled"
    config: Any = network.config.get_text_config(decoder=True)
    if set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        return "some layers see only a part of what came before"
    return ""
