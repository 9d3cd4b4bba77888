"""One model on one device: what it takes, and how fast the engine answers with it.

Knows devices by name only; what is special about CUDA is in `Meter`.
"""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers import GenerationConfig, InternVLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from backend.checkpoint.facts import read_facts
from backend.checkpoint.tokenizer import read_tokens
from backend.local.engine import LocalEngine
from backend.local.load import load_network
from backend.local.model import LocalModel
from backend.local.placement import Placement
from backend.planner.costs import TILES_PER_BATCH, Demand, Precision, reckon
from backend.planner.devices import CPU, GB, Device, Machine
from backend.planner.plan import Plan, Strategy, plan_devices
from backend.planner.shapes import HEAD, LAYERS, NORM, Shape
from backend.settings import Settings
from benchmarks.material import WORDS, ask
from benchmarks.sizing import run_together

BOUNDLESS = 10_000 * GB  # whether a case fits is not asked here
QUESTION = WORDS * 20


@dataclass(frozen=True)
class Case:
    """What is loaded how, and asked: a prompt of so many tokens, an answer of so many."""

    shape: Shape
    precision: Precision
    attention: str = "sdpa"
    prompt: int = 4096
    new: int = 256
    tiles: int = TILES_PER_BATCH

    @property
    def name(self) -> str:
        """As a person calls it."""
        return f"{self.shape.name}, {self.precision}, {self.attention}"

    @cached_property
    def plan(self) -> Plan:
        """Everything on one GPU that is large enough."""
        context = self.prompt + self.new
        demand = Demand(self.shape, self.precision, context, self.tiles)
        return plan_devices(demand, Machine((Device("cuda:0", BOUNDLESS),)), Strategy.SINGLE)

    @property
    def planned_weights(self) -> int:
        """Bytes of the model alone."""
        return self.plan.weights_bytes

    @property
    def planned_bytes(self) -> int:
        """Bytes at the peak of a question and its answer, the reserve left out."""
        return self.plan.weights_bytes + self.plan.kv_bytes + self.plan.activation_bytes


@dataclass(frozen=True, slots=True)
class Times:
    """Tokens a second: of one person, and of many together."""

    alone: float
    together: float


class Meter:
    """Bytes that torch's allocator gave out on a CUDA device inside the block."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._before = 0

    def __enter__(self) -> Self:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        self._before = torch.cuda.memory_allocated(self.device)
        return self

    def __exit__(self, *_: object) -> None:
        torch.cuda.synchronize(self.device)

    @property
    def peak(self) -> int:
        """The most at once, beside what was there before."""
        return torch.cuda.max_memory_allocated(self.device) - self._before

    def bytes_of(self, network: torch.nn.Module) -> int:
        """What a network takes that was loaded inside the block."""
        gc.collect()
        return torch.cuda.memory_allocated(self.device) - self._before


def load_case(folder: Path, case: Case, device: str) -> InternVLForConditionalGeneration:
    """The case's network, loaded as the app loads it."""
    place: int | str = int(device.partition(":")[2] or 0) if device != CPU else CPU
    placement = Placement(
        getattr(torch, case.precision.dtype),
        case.attention,
        case.precision.quantize,
        {"": place},
    )
    facts, tokens = read_facts(folder), read_tokens(folder)
    return load_network(folder, facts.layout, tokens, placement, lambda share: None)


@torch.inference_mode()
def count_bytes(network: Any, folder: Path, case: Case, meter: Any) -> int:
    """The peak beside the weights while tiles are seen batch by batch, a prompt is read that shows
    hardly anything else, and an answer is written."""
    vision, per_tile = case.shape.vision, case.shape.tokens_per_tile
    shown = (case.prompt - 1) // per_tile
    batches = [min(case.tiles, shown - start) for start in range(0, shown, case.tiles)]
    side = vision.tile
    picture = network.config.image_token_id
    model = LocalModel(network, read_facts(folder), read_tokens(folder))
    with meter:
        # The app's own way from bytes to features; it is no part of the model's face.
        seen = [model._encode(np.zeros((tiles, side, side, 3), np.uint8)) for tiles in batches]
        features = torch.cat(seen)
        del seen
        pictures = BaseModelOutputWithPooling(pooler_output=features)
        ids = torch.full((1, case.prompt), picture + 1, device=meter.device)
        ids[:, : shown * per_tile] = picture
        network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_encoder_outputs={"image": pictures},
            generation_config=GenerationConfig(
                max_new_tokens=case.new, do_sample=False, pad_token_id=0, eos_token_id=None
            ),
        )
    return int(meter.peak)


def decode_limit(case: Case, bandwidth: float) -> float:
    """Tokens a second at which the memory has delivered every weight and every kept key once.

    The weights of decoder layers, norm and head; the head stays unquantised here.
    """
    weights = reckon(case.plan.demand).weights
    read = sum(size for name, size in weights.items() if name.startswith((LAYERS, NORM, HEAD)))
    return bandwidth / (read + case.plan.kv_bytes)


def time_answers(folder: Path, case: Case, device: str, people: int) -> Times:
    """How fast the engine answers one person, and `people` who ask at the same time."""
    settings = Settings(
        model=str(folder),
        dtype=str(case.precision.dtype),
        quantize=str(case.precision.quantize) if case.precision.quantize else None,
        attention=case.attention,
        strategy="cpu" if device == CPU else "single",
        context=min(case.shape.context, case.prompt + case.new),
        max_queue=4 * people,
    )
    engine = LocalEngine(settings)
    engine.start()
    try:
        _answer(engine, case.new, "first")  # loads, and warms up
        alone = _tokens_per_second(engine, case.new, ["one"])
        together = _tokens_per_second(engine, case.new, [f"one of {n}" for n in range(people)])
    finally:
        engine.close()
    return Times(alone, together)


def _tokens_per_second(engine: LocalEngine, new: int, people: Sequence[str]) -> float:
    """Of all together, from the first question to the end of the last answer."""
    written: list[int] = []
    begun = time.perf_counter()
    run_together([lambda name=name: written.append(_answer(engine, new, name)) for name in people])
    return sum(written) / (time.perf_counter() - begun)


def _answer(engine: LocalEngine, new: int, session: str) -> int:
    """Ask, wait for the end, and tell the tokens that came; questions differ by who asks."""
    stream = engine.stream(ask(f"{session}: {QUESTION}", most=new, session=session))
    for _ in stream:
        pass
    return len(stream.token_ids)
