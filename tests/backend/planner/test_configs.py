import json
from pathlib import Path
from typing import Any

import pytest

from backend.errors import BadCheckpoint
from backend.planner.configs import read_shape, shape_of
from tests.backend.planner.real_models import small_config

ORIGINAL = Path(__file__).parents[2] / "golden" / "original" / "layernorm-448"


def hf(**changes: Any) -> dict[str, Any]:
    return small_config().to_dict() | changes


def with_text(**changes: Any) -> dict[str, Any]:
    config = hf()
    return config | {"text_config": config["text_config"] | changes}


def test_a_folder_is_called_what_the_caller_says_or_its_own_name() -> None:
    assert read_shape(ORIGINAL).name == "layernorm-448"
    assert read_shape(ORIGINAL, "mine").name == "mine"


def test_both_layouts_tell_context_tokens_and_dtype() -> None:
    original = read_shape(ORIGINAL)
    assert (original.context, original.tokens_per_tile, original.saved_as) == (
        32_768,
        256,
        "float32",
    )
    saved = shape_of(hf(dtype="bfloat16"), "small")
    assert (saved.context, saved.tokens_per_tile, saved.saved_as) == (32_768, 256, "bfloat16")


def test_a_config_that_says_nothing_of_ties_is_tied_as_transformers_would_have_it() -> None:
    config = hf()
    del config["tie_word_embeddings"]
    assert shape_of(config, "small").tied


def test_a_missing_vision_config_means_the_300m_tower() -> None:
    config = hf()
    del config["vision_config"]
    vision = shape_of(config, "small").vision
    assert (vision.layers, vision.hidden, vision.tile) == (24, 1024, 448)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "type 'None', not an InternVL"),
        ({"model_type": "qwen2_5_vl"}, "type 'qwen2_5_vl', not an InternVL"),
        ({"model_type": "internvl"}, "text_config"),
        ({"model_type": "internvl_chat", "vision_config": {}}, "llm_config"),
        (hf(text_config=None), "NoneType"),
        (hf(downsample_ratio=0), "division"),
        (with_text(model_type="qwen3_moe"), "small is qwen3_moe, a mixture of experts, which"),
        (
            {"model_type": "internvl_chat", "llm_config": {"model_type": "gpt_oss"}},
            "small is gpt_oss, a mixture of experts, which",
        ),
        (
            {"model_type": "internvl_chat", "llm_config": {"model_type": "phi3"}},
            "small is phi3, which this program does not load. Give a dense checkpoint",
        ),
        (with_text(num_hidden_layers=0), "0"),
        (with_text(num_hidden_layers="24"), "'24'"),
        (with_text(hidden_size=None), "None"),
        (hf(quantization_config={"quant_method": "awq"}), "quantised"),
        (hf(vision_config={"image_size": [448, 224]}), "square"),
    ],
    ids=lambda value: value if isinstance(value, str) else "config",
)
def test_a_config_that_is_not_internvls_is_refused_by_name(
    config: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadCheckpoint, match="small") as refusal:
        shape_of(config, "small")
    assert words in str(refusal.value)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"no config\.json"):
        read_shape(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", "version https://git-lfs.github.com/spec/v1"])
def test_a_broken_config_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read_shape(tmp_path)


def test_a_config_is_enough(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(hf()))
    assert read_shape(tmp_path).text.layers == 3
