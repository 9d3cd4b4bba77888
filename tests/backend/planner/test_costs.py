from typing import Any

import pytest
import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from backend.errors import BadSetting
from backend.planner.costs import (
    Demand,
    Dtype,
    Precision,
    Quantization,
    ends_bytes,
    reckon,
    text_bytes,
    vision_bytes,
    weigh_matrix,
)
from backend.planner.sizes import SIZES, find_size
from tests.backend.planner.real_models import (
    PICTURE_TOKEN,
    LiveBytes,
    build,
    read_back,
    small_config,
)

EXACT_ENOUGH = 0.03  # of what a real pass takes, above it; never below
DTYPES = {torch.bfloat16: Dtype.BFLOAT16, torch.float32: Dtype.FLOAT32}
TOKENS = 512  # two tiles of 256 tokens


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_the_bytes_of_a_loaded_model(dtype: torch.dtype, tied: bool) -> None:
    config = small_config(tied=tied)
    demand = Demand(read_back(config), Precision(DTYPES[dtype]), TOKENS)
    planned = sum(reckon(demand).weights.values())
    # Rotary tables stay float32 in a model that was loaded; `build` casts them.
    rotary = 2 * (192 // 6 // 2) * (4 - dtype.itemsize)
    assert planned == build(config, dtype).get_memory_footprint() + rotary


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_cache_is_the_bytes_of_a_real_one(dtype: torch.dtype) -> None:
    config = small_config()
    cache = DynamicCache()
    read(build(config, dtype), dtype, cache)
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    demand = Demand(read_back(config), Precision(DTYPES[dtype]), TOKENS)
    assert reckon(demand).kv_layer * 3 == real


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "text",
    [
        {},
        {"intermediate_size": 1536},
        {"intermediate_size": 512},
        {"model_type": "llama", "num_key_value_heads": 6},
        {"model_type": "qwen3", "head_dim": 32},
    ],
    ids=str,
)
def test_reading_a_prompt_takes_what_is_planned(dtype: torch.dtype, text: dict[str, Any]) -> None:
    config = small_config(text=text)
    shape, precision = read_back(config), Precision(DTYPES[dtype])
    model = build(config, dtype)
    with LiveBytes(model.parameters()) as live:
        read(model, dtype, DynamicCache())
    kv = shape.text.layers * reckon(Demand(shape, precision, TOKENS)).kv_layer
    planned = kv + text_bytes(shape.text, precision, TOKENS) + ends_bytes(shape, precision, TOKENS)
    assert live.peak <= planned <= live.peak * (1 + EXACT_ENOUGH)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "vision",
    [
        {},
        {"intermediate_size": 256},
        {"norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": False},
    ],
    ids=str,
)
def test_seeing_tiles_takes_what_is_planned(dtype: torch.dtype, vision: dict[str, Any]) -> None:
    config = small_config(vision=vision)
    model = build(config, dtype)
    with LiveBytes(model.parameters()) as live, torch.inference_mode():
        see(model)
    demand = Demand(read_back(config), Precision(DTYPES[dtype]), context=1, tiles=2)
    assert live.peak <= vision_bytes(demand) <= live.peak * (1 + EXACT_ENOUGH)


def test_quantised_matrices_are_the_bytes_of_bitsandbytes() -> None:
    """Found in 0.50.2: weight and SCB of Linear8bitLt; data, absmax and code of Params4bit."""
    assert weigh_matrix(1536, 384, Quantization.INT8) == 589_824 + 6_144
    assert weigh_matrix(128, 384, Quantization.INT8) == 49_152 + 512
    assert weigh_matrix(1536, 384, Quantization.NF4) == 294_912 + 36_864 + 64
    assert weigh_matrix(128, 384, Quantization.NF4) == 24_576 + 3_072 + 64


@pytest.mark.parametrize("quantize", Quantization)
@pytest.mark.parametrize("shape", SIZES, ids=lambda shape: shape.name)
def test_only_decoder_layers_are_quantised(shape: Any, quantize: Quantization) -> None:
    plain = reckon(Demand(shape)).weights
    lighter = reckon(Demand(shape, Precision(quantize=quantize))).weights
    changed = {name for name in plain if plain[name] != lighter[name]}
    assert changed == {name for name in plain if ".layers." in name}
    assert all(lighter[name] < plain[name] * 0.51 for name in changed)


def test_what_is_quantised_is_computed_in_the_dtype_and_cached_in_it() -> None:
    shape = find_size("2B")
    assert shape is not None
    plain, lighter = (
        reckon(Demand(shape)),
        reckon(Demand(shape, Precision(quantize=Quantization.NF4))),
    )
    assert lighter.kv_layer == plain.kv_layer
    assert lighter.plain_layer == plain.plain_layer
    assert lighter.text > plain.text


@pytest.mark.parametrize(("context", "tiles"), [(0, 1), (32_769, 1), (1, 0), (-5, 1)])
def test_a_demand_out_of_range_is_refused(context: int, tiles: int) -> None:
    with pytest.raises(BadSetting, match="context of 1B is|tiles in a batch is 0"):
        Demand(SIZES[0], context=context, tiles=tiles)


def see(model: Any) -> torch.Tensor:
    """Encode two tiles as `backend.local.model` does: bytes, normalised in float32."""
    pixels = torch.zeros(2, 448, 448, 3, dtype=torch.uint8)
    normal = pixels.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)
    outputs = model.model.get_image_features(pixel_values=normal, return_dict=True)
    features: torch.Tensor = outputs.pooler_output
    return features


def read(model: Any, dtype: torch.dtype, cache: DynamicCache) -> None:
    """Read a prompt that is all pictures, and write one token."""
    width = model.config.text_config.hidden_size
    features = torch.zeros(TOKENS // 256, 256, width, dtype=dtype)
    ids = torch.full((1, TOKENS), PICTURE_TOKEN)
    with torch.inference_mode():
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=features)},
            cache=cache,
            max_new_tokens=1,
            do_sample=False,
            pad_token_id=0,
        )
