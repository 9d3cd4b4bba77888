"""What a checkpoint costs in bytes: weights by precision, cache, and room to work in.

The room to work in (activations) is the peak of a forward pass through transformers 5.24 with
sdpa or flash attention, where no matrix of tokens x tokens is ever made. Its terms were found by
following the modules' code and are held against the live bytes of real passes in the tests;
those for int8 and nf4 on a GPU follow bitsandbytes 0.50's code and were not measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod

from backend.conversation import check_range
from backend.planner.adapters import NOTHING, Beside, measure_own
from backend.planner.shapes import (
    LAYERS,
    ROTARY,
    Parameters,
    Shape,
    TextShape,
    VisionShape,
    list_vision_layer,
)

CONTEXT = 16_384  # tokens: what the family was fine-tuned with, and the card's session_len
TILES_PER_BATCH = 16  # the vision tower never sees more tiles at once
FLOAT32_BYTES = 4
PIXEL_BYTES = 1 + FLOAT32_BYTES  # as they came, and normalised
NF4_BLOCK = 64  # weights that share a scale
NF4_CODE_BYTES = 64  # the sixteen values of nf4, kept by every matrix


class Dtype(StrEnum):
    """What the unquantised numbers are, and what is computed in."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Quantization(StrEnum):
    """How bitsandbytes stores the decoder layers' matrices; the rest stays unquantised."""

    INT8 = "int8"
    NF4 = "nf4"  # without double quantisation, transformers' default


@dataclass(frozen=True, slots=True)
class Precision:
    """A dtype, and a quantisation or none."""

    dtype: Dtype = Dtype.BFLOAT16
    quantize: Quantization | None = None

    @property
    def element(self) -> int:
        """Bytes of one unquantised number."""
        return 4 if self.dtype is Dtype.FLOAT32 else 2

    def __str__(self) -> str:
        return str(self.quantize or self.dtype)


@dataclass(frozen=True, slots=True)
class Demand:
    """What has to find room: a checkpoint in a precision, a cache, a batch of tiles, an adapter.

    `context` tokens are cached at most and may be read in one go. `adapter` is what a LoRA leaves
    beside matrices that it cannot be merged into; the checkpoint's own is known by its shape.
    """

    shape: Shape
    precision: Precision = field(default_factory=Precision)
    context: int = CONTEXT
    tiles: int = TILES_PER_BATCH
    adapter: Beside = NOTHING

    def __post_init__(self) -> None:
        check_range(f"context of {self.shape.name}", self.context, 1, self.shape.context)
        check_range("number of tiles in a batch", self.tiles, 1, 4096)


@dataclass(frozen=True, slots=True)
class Bill:
    """What a demand costs, in bytes, in the pieces that a placement distributes."""

    weights: Mapping[str, int]  # of every module, with what of adapters stays beside it
    plain_layer: int  # weights of a decoder layer that is not quantised
    vision_layer: int  # weights of one layer of the vision tower
    adapter_layer: int  # of adapters where a layer computes that lies in a store
    adapter_vision: int  # and where such a vision tower does
    kv_layer: int  # cache of one decoder layer
    vision: int  # at work where the vision tower is, before the text is read
    text: int  # at work wherever decoder layers run
    ends: int  # besides, where embeddings and head are


def choose_dtype(
    shape: Shape, quantize: Quantization | None = None, memory: int | None = None
) -> Dtype:
    """What "auto" means on a GPU, or on a processor with so many free bytes of `memory`.

    On a GPU it is two bytes, be it bfloat16 or float16. On a processor float32 was as quick as
    bfloat16 or quicker at every size tried (matrices of the 1B, 2B and 8B, AVX-512 with bf16
    instructions, torch 2.13), so only memory speaks for less, and then it is as saved.
    """
    if memory is None:
        return Dtype.BFLOAT16
    demand = Demand(shape, Precision(Dtype.FLOAT32, quantize), context=1, tiles=1)
    weights = sum(reckon(demand).weights.values())
    return Dtype.FLOAT32 if weights <= memory // 2 else Dtype(shape.saved_as)


def reckon(demand: Demand) -> Bill:
    """The bill of a demand."""
    shape, precision = demand.shape, demand.precision
    modules = shape.modules
    layer = modules[f"{LAYERS}.0"]
    beside = demand.adapter + measure_own(shape)
    adapter_layer = beside.layer * precision.element
    layer_bytes = weigh_parameters(layer, precision, may_quantize=True)
    layer_bytes += adapter_layer if precision.quantize else 0  # else it is merged
    weights = {
        name: layer_bytes
        if parameters is layer
        else weigh_parameters(parameters, precision, may_quantize=False)
        for name, parameters in modules.items()
    }
    # Two float32 tables of rotary frequencies are the only buffers of the model.
    weights[ROTARY] = shape.text.head_dim * FLOAT32_BYTES
    return Bill(
        weights=weights,
        plain_layer=weigh_parameters(layer, precision, may_quantize=False),
        vision_layer=weights_of_vision_layer(shape.vision, precision),
        adapter_layer=adapter_layer,
        adapter_vision=beside.vision * precision.element,
        kv_layer=2 * shape.text.kv_width * precision.element * demand.context,
        vision=vision_bytes(demand),
        text=text_bytes(shape.text, precision, demand.context),
        ends=ends_bytes(shape, precision, demand.context),
    )


def weigh_parameters(parameters: Parameters, precision: Precision, may_quantize: bool) -> int:
    """Bytes of a module's weights; only matrices of decoder layers may be quantised."""
    quantize = precision.quantize if may_quantize else None
    return sum(
        prod(size) * precision.element
        if quantize is None or len(size) != 2
        else weigh_matrix(size[0], size[1], quantize)
        for size in parameters.values()
    )


def weigh_matrix(rows: int, columns: int, quantize: Quantization) -> int:
    """Bytes of a quantised matrix: int8 keeps a scale per row, nf4 one per block of weights."""
    weights = rows * columns
    if quantize is Quantization.INT8:
        return weights + FLOAT32_BYTES * rows
    return -(-weights // 2) + FLOAT32_BYTES * -(-weights // NF4_BLOCK) + NF4_CODE_BYTES


def weights_of_vision_layer(vision: VisionShape, precision: Precision) -> int:
    """Bytes of one encoder layer, the most of the tower that is ever moved at once."""
    return weigh_parameters(list_vision_layer(vision), precision, may_quantize=False)


def vision_bytes(demand: Demand) -> int:
    """At work in the vision tower: a batch of tiles, and the features of all tiles so far.

    The peak is the GELU of a layer: its input and output of the wide part, and of the narrow
    width the layer's input, both residuals, the normed input and the attention's output.
    """
    vision, element = demand.shape.vision, demand.precision.element
    wide, narrow = 2 * vision.ffn, 5 * vision.hidden
    positions = demand.tiles * (vision.patches + 1)
    converted = element if element < FLOAT32_BYTES else 0
    pixels = demand.tiles * vision.channels * vision.tile**2 * (PIXEL_BYTES + converted)
    features = demand.context * demand.shape.text.hidden * element
    return positions * (wide + narrow) * element + pixels + features


def text_bytes(text: TextShape, precision: Precision, tokens: int) -> int:
    """At work in a decoder layer that reads `tokens` at once.

    The peak is the gated product: three tensors of the wide part, and of the narrow width the
    layer's input, the residual and the normed input; a shape with a slim wide part peaks at the
    rotation of its queries instead. Sines and cosines come on top.
    """
    wide = 3 * text.ffn + 3 * text.hidden
    rotation = 2 * text.hidden + 5 * text.heads * text.head_dim + 2 * text.kv_width
    numbers = max(wide, rotation) + 2 * text.head_dim
    return tokens * numbers * precision.element + quantizing_bytes(text, precision, tokens)


def quantizing_bytes(text: TextShape, precision: Precision, tokens: int) -> int:
    """What multiplying by quantised matrices needs besides.

    nf4 unpacks one whole matrix at a time; int8 rounds its input and sums in 32 bits.
    """
    if precision.quantize is Quantization.NF4:
        return text.ffn * text.hidden * precision.element
    if precision.quantize is Quantization.INT8:
        return tokens * (2 * text.ffn + 3 * text.hidden)
    return 0


def ends_bytes(shape: Shape, precision: Precision, tokens: int) -> int:
    """At work where embeddings and head are: the embedded prompt, the features of its pictures,
    ids and mask (8 bytes each, twice), and one row of logits in three float32 copies."""
    embedded = 2 * tokens * shape.text.hidden * precision.element
    return embedded + 32 * tokens + 3 * FLOAT32_BYTES * shape.text.vocabulary
