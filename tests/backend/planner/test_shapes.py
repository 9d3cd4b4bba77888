import json
import struct
from collections import Counter
from math import prod
from pathlib import Path

import pytest
import torch

from backend.planner.configs import read_shape
from backend.planner.shapes import (
    EMBEDDINGS,
    HEAD,
    LAYERS,
    NORM,
    PROJECTOR,
    VISION,
    Shape,
    count,
)
from backend.planner.sizes import SIZES, find_size
from benchmarks.random_shards import config_of
from tests.backend.planner.real_models import build, read_back, small_config

ROOT = Path(__file__).parents[3]
ORIGINALS = sorted((ROOT / "tests" / "golden" / "original").iterdir())
# Published files and meta-device builds; the 9B's shape was never seen in a published config.
TOTALS = {
    "1B": 938_193_024,
    "2B": 2_088_957_440,
    "8B": 7_944_373_760,
    "14B": 15_117_256_704,
    "38B": 38_388_164_992,
    "78B": 78_408_318_336,
}
# Bytes that one token takes in a bfloat16 cache, from the base models' configs.
KV_PER_TOKEN = {
    "1B": 12_288,
    "2B": 28_672,
    "8B": 57_344,
    "9B": 49_152,
    "14B": 196_608,
    "38B": 262_144,
    "78B": 327_680,
}


def listed(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Every parameter by its full name."""
    return {
        f"{module}.{name}": size
        for module, parameters in shape.modules.items()
        for name, size in parameters.items()
    }


def real(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", TOTALS)
def test_a_size_has_as_many_parameters_as_its_published_files(name: str) -> None:
    shape = find_size(name)
    assert shape is not None
    assert shape.parameters == TOTALS[name]
    assert not shape.unconfirmed


def test_the_9b_is_about_right_and_marked_as_unconfirmed() -> None:
    shape = find_size("9B")
    assert shape is not None
    assert shape.parameters == pytest.approx(9.14e9, rel=1e-3)
    assert shape.unconfirmed


@pytest.mark.parametrize("shape", SIZES, ids=lambda shape: shape.name)
def test_every_parameter_of_a_size_is_that_of_transformers_own_model(shape: Shape) -> None:
    assert listed(shape) == real(build(config_of(shape), torch.bfloat16, "meta"))


@pytest.mark.parametrize("shape", SIZES, ids=lambda shape: shape.name)
def test_a_token_takes_as_many_bytes_of_cache_as_the_config_says(shape: Shape) -> None:
    assert shape.text.layers * 2 * shape.text.kv_width * 2 == KV_PER_TOKEN[shape.name]


@pytest.mark.parametrize("shape", SIZES, ids=lambda shape: shape.name)
def test_a_tile_of_448_px_is_256_tokens_in_every_size(shape: Shape) -> None:
    assert shape.tokens_per_tile == 256


@pytest.mark.parametrize(
    "changes",
    [
        {"vision": {"norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": False}},
        {"vision": {"use_mask_token": True, "use_mean_pooling": False}},
        {"vision": {"image_size": [112, 112], "use_absolute_position_embeddings": False}},
        {"text": {"model_type": "llama", "attention_bias": True, "mlp_bias": True}},
        {"text": {"model_type": "llama"}},
        {"text": {"model_type": "qwen3", "head_dim": 48}},
        {"text": {"model_type": "qwen3", "attention_bias": True}},
        {"text": {"num_key_value_heads": None}},
        {"tied": True},
    ],
    ids=str,
)
def test_every_parameter_of_an_unusual_model_is_found_too(changes: dict[str, dict]) -> None:
    config = small_config(**changes)
    assert listed(read_back(config)) == real(build(config, torch.bfloat16, "meta"))


@pytest.mark.parametrize("folder", ORIGINALS, ids=lambda folder: folder.name)
def test_modules_of_the_original_layout_have_as_many_parameters_as_its_weights(
    folder: Path,
) -> None:
    expected = Counter[str]()
    for name, size in read_header(folder / "model.safetensors").items():
        expected[native_module(name)] += prod(size)
    shape = read_shape(folder)
    assert {name: count(found) for name, found in shape.modules.items() if found} == expected


def test_the_bundled_checkpoint_has_the_parameters_of_its_weights() -> None:
    folder = ROOT / "assets" / "checkpoint"
    weights = read_header(folder / "model.safetensors")
    shape = read_shape(folder)
    saved = {weight for weight in weights if not (shape.tied and weight == "lm_head.weight")}
    assert shape.parameters == sum(prod(weights[name]) for name in saved)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("8B", "8B"),
        ("38b", "38B"),
        ("2B-Instruct", "2B"),
        ("14B-Pretrained", "14B"),
        ("OpenGVLab/InternVL3-78B-hf", "78B"),
        ("OpenGVLab/InternVL3-9B", "9B"),
        ("InternVL3-1B-Instruct", "1B"),
    ],
)
def test_a_size_is_known_by_all_its_names(model: str, size: str) -> None:
    shape = find_size(model)
    assert shape is not None
    assert shape.name == size


@pytest.mark.parametrize("model", ["3B", "OpenGVLab/InternVL3-8B-AWQ", "Qwen/Qwen2-8B", "", "8"])
def test_other_names_are_no_size(model: str) -> None:
    assert find_size(model) is None


def read_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and sizes of the tensors in a safetensors file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: tuple(one["shape"]) for name, one in header.items() if name != "__metadata__"}


def native_module(name: str) -> str:
    """The module of the native layout that a tensor of the original layout becomes a part of."""
    if name.startswith("vision_model."):
        return VISION
    if name.startswith("mlp1."):
        return PROJECTOR
    if name.startswith("language_model.model.layers."):
        return f"{LAYERS}.{name.split('.')[3]}"
    if name.startswith(("language_model.lm_head", "language_model.output")):
        return HEAD
    return NORM if name.startswith("language_model.model.norm") else EMBEDDINGS
