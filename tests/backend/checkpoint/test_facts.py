"""Facts of a checkpoint: both layouts, and what is said of folders that hold something else."""

import json
from pathlib import Path

import pytest

from backend.checkpoint.facts import OFFICIAL_SYSTEM_PROMPT, Facts, Layout, read_facts
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.errors import BadCheckpoint
from tests.backend.checkpoint.folders import (
    GOLDEN,
    ORIGINAL,
    ORIGINALS,
    change_json,
    copy_small_files,
)


@pytest.fixture
def hf(tmp_path: Path) -> Path:
    return copy_small_files(BUNDLED_FOLDER, tmp_path / "hf")


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return copy_small_files(ORIGINAL, tmp_path / "original")


def test_an_original_checkpoint_tells_its_facts():
    assert read_facts(ORIGINAL) == Facts(
        name="layernorm-448",
        folder=ORIGINAL,
        layout=Layout.ORIGINAL,
        tile=448,
        tokens_per_tile=256,
        max_tiles=12,
        thumbnail=True,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        context_length=32_768,
        embedding_rows=512,
        eos_token_ids=(500,),
        system_prompt=OFFICIAL_SYSTEM_PROMPT,
    )


@pytest.mark.parametrize("folder", ORIGINALS[1:], ids=lambda folder: folder.name)
def test_smaller_tiles_give_fewer_tokens(folder: Path):
    facts = read_facts(folder)
    assert (facts.tile, facts.tokens_per_tile) == (112, 16)


def test_the_bundled_checkpoint_agrees_with_its_own_files():
    facts = read_facts(BUNDLED_FOLDER, "bundled")
    config = json.loads((BUNDLED_FOLDER / "config.json").read_text("utf-8"))
    assert facts.name == "bundled"
    assert facts.layout is Layout.HF
    assert facts.tokens_per_tile == config["image_seq_length"]
    assert facts.embedding_rows == config["text_config"]["vocab_size"]
    assert facts.context_length == config["text_config"]["max_position_embeddings"]
    assert config["text_config"]["eos_token_id"] in facts.eos_token_ids


def test_the_official_system_prompt_is_that_of_the_golden_prompts():
    cases = json.loads((GOLDEN / "prompts.json").read_text("utf-8"))
    assert cases[0]["system"] == OFFICIAL_SYSTEM_PROMPT


def test_the_checkpoint_may_bring_its_own_system_prompt(original: Path):
    change_json(original / "config.json", system_message="You read X-rays.")
    assert read_facts(original).system_prompt == "You read X-rays."


def test_tiles_that_are_not_cut_are_one(original: Path):
    change_json(original / "config.json", dynamic_image_size=False, use_thumbnail=False)
    facts = read_facts(original)
    assert (facts.max_tiles, facts.thumbnail) == (1, False)


def test_the_preprocessor_gives_tiles_and_colours(hf: Path):
    change = {"max_patches": 6, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.3, 0.2, 0.1]}
    change_json(hf / "preprocessor_config.json", **change, crop_to_patches=False)
    facts = read_facts(hf)
    assert (facts.max_tiles, facts.mean, facts.std) == (6, (0.5, 0.4, 0.3), (0.3, 0.2, 0.1))


def test_the_preprocessor_may_stand_in_the_processor_config(hf: Path):
    (hf / "preprocessor_config.json").unlink()
    change_json(hf / "processor_config.json", image_processor={"max_patches": 3})
    assert read_facts(hf).max_tiles == 3


def test_without_a_preprocessor_the_card_decides(hf: Path):
    (hf / "preprocessor_config.json").unlink()
    assert read_facts(hf).max_tiles == 12


def test_an_answer_ends_at_every_id_that_the_files_name(hf: Path):
    change_json(hf / "generation_config.json", eos_token_id=[7, 8])
    assert read_facts(hf).eos_token_ids == (7, 8, 1526)
    change_json(hf / "generation_config.json", eos_token_id=1526)
    assert read_facts(hf).eos_token_ids == (1526,)
    (hf / "generation_config.json").unlink()
    assert read_facts(hf).eos_token_ids == (1526,)


def test_an_original_answer_ends_only_where_a_turn_does(original: Path):
    change_json(original / "generation_config.json", eos_token_id=[501, 502])
    assert read_facts(original).eos_token_ids == (500,)


@pytest.mark.parametrize(
    "model_type", ["qwen2_vl", "llava", "internvl_chat_moe", None, ["internvl"]]
)
def test_another_family_is_named(original: Path, model_type: object):
    change_json(original / "config.json", model_type=model_type)
    with pytest.raises(BadCheckpoint, match="not an InternVL") as error:
        read_facts(original)
    assert repr(model_type) in str(error.value)


def test_another_chat_template_is_named(original: Path):
    change_json(original / "config.json", template="Hermes-2")
    with pytest.raises(BadCheckpoint, match="'Hermes-2'"):
        read_facts(original)


@pytest.mark.parametrize(
    "change",
    [
        {"llm_config": None},
        {"llm_config": {}},
        {"vision_config": []},
        {"force_image_size": [448, 224]},
        {"force_image_size": "big"},
        {"downsample_ratio": 0},
        {"downsample_ratio": "half"},
    ],
    ids=str,
)
def test_a_config_that_internvl_never_wrote_is_told(original: Path, change: dict[str, object]):
    change_json(original / "config.json", **change)
    with pytest.raises(BadCheckpoint, match=r"config\.json is not as InternVL writes it"):
        read_facts(original)


def test_a_broken_config_is_told(original: Path):
    (original / "config.json").write_text('{"model_type": "intern')
    with pytest.raises(BadCheckpoint, match=r"config\.json cannot be read. Download"):
        read_facts(original)


def test_a_folder_without_a_config_is_told(tmp_path: Path):
    with pytest.raises(BadCheckpoint, match=r"no config\.json"):
        read_facts(tmp_path)


def test_a_missing_folder_is_told(tmp_path: Path):
    with pytest.raises(BadCheckpoint, match="no folder"):
        read_facts(tmp_path / "none")
