"""InternVL's other generations: 2.5 and dense 3.5 load by the same rules, others are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

import app
from backend.checkpoint.facts import Layout, read_facts
from backend.checkpoint.tokenizer import read_tokens
from backend.errors import BadCheckpoint
from backend.local.load import load_checkpoint, load_network
from backend.local.placement import Placement
from backend.planner.configs import read_shape
from backend.settings import Settings
from tests.backend.local.golden import FOLDER, draw
from tests.backend.local.stand_ins import instant_composer

QWEN2, INTERNLM2 = FOLDER / "qknorm-112", FOLDER / "internlm2-112"
# As InternVL3.5's: heads of their own width, no biases, queries and keys normed.
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 48,
    "attention_bias": False,
}


def change_language(folder: Path, **settings: Any) -> dict[str, Any]:
    """Set values of the language part's configuration; returns all of it."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    part = "llm_config" if "llm_config" in config else "text_config"
    config[part] |= settings
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    told: dict[str, Any] = config[part]
    return told


def make_internvl35(folder: Path) -> Qwen3ForCausalLM:
    """A random InternVL3.5 in the original layout; returns its language part."""
    shutil.copytree(QWEN2, folder)
    told = change_language(folder, **QWEN3)
    names = Qwen3Config().to_dict().keys() & told.keys() - {"transformers_version", "model_type"}
    torch.manual_seed(0)
    config = Qwen3Config(**{name: told[name] for name in (*names, "rope_theta")})
    language = Qwen3ForCausalLM(config).eval()
    weights = load_file(folder / "model.safetensors")
    weights = {n: w for n, w in weights.items() if not n.startswith("language_model.")}
    weights |= {f"language_model.{n}": w for n, w in language.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return language


def load(folder: Path) -> Any:
    layout, tokens = read_facts(folder).layout, read_tokens(folder)
    return load_network(folder, layout, tokens, Placement(torch.float32), lambda share: None)


def answer(folder: Path, picture: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    words = ["What is this?", "--image", str(picture), "--then", "Why?", "--max-new-tokens", "9"]
    assert app.main(["ask", *words, "--model", str(folder), "--json"]) == 0
    return [turn["token_ids"] for turn in json.loads(capsys.readouterr().out)["turns"]]


def test_internvl35_computes_what_its_language_part_does(tmp_path: Path) -> None:
    language = make_internvl35(tmp_path / "original")
    network = load(tmp_path / "original")
    ids = torch.arange(3, 60)[None]
    with torch.inference_mode():
        expected = language(input_ids=ids).logits
        torch.testing.assert_close(network(input_ids=ids).logits, expected, rtol=0, atol=1e-5)
    assert network.config.text_config.head_dim == 48


def test_internvl35_answers_the_same_in_both_layouts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original, native = tmp_path / "original", tmp_path / "native"
    make_internvl35(original)
    shutil.copytree(original, native)
    network = load(original)
    save_file(network.state_dict(), native / "model.safetensors", {"format": "pt"})
    network.config.save_pretrained(native)
    assert read_facts(native).layout is Layout.HF
    draw(150, 100, 3).save(tmp_path / "p.png")
    told = [answer(folder, tmp_path / "p.png", capsys) for folder in (original, native)]
    assert told[0] == told[1] and all(told[0])


def test_internvl35_is_planned_to_the_byte(tmp_path: Path) -> None:
    make_internvl35(tmp_path / "original")
    network = load(tmp_path / "original")
    assert read_shape(tmp_path / "original").parameters == network.num_parameters()


def test_internvl25_stretches_its_positions_as_internlm2_did(tmp_path: Path) -> None:
    """`rope_scaling` of InternVL2.5-2B, 8B and 26B: dynamic NTK, beyond the trained length."""
    folder = shutil.copytree(INTERNLM2, tmp_path / "copy")
    told = change_language(folder, rope_scaling={"type": "dynamic", "factor": 2.0})
    rotary = load(folder).model.language_model.rotary_emb
    length, base = told["max_position_embeddings"], float(told["rope_theta"])
    width = told["hidden_size"] // told["num_attention_heads"]
    positions = torch.arange(3 * length)[None]
    cos, _ = rotary(torch.zeros(1), positions)
    stretched = base * (2 * 3 * length / length - (2 - 1)) ** (width / (width - 2))
    angles = positions[0, :, None] / stretched ** (torch.arange(0, width, 2) / width)
    torch.testing.assert_close(cos[0, :, : width // 2], angles.cos(), rtol=0, atol=1e-2)
    plain = positions[0, :, None] / base ** (torch.arange(0, width, 2) / width)
    assert (plain.cos() - angles.cos()).abs().max() > 0.5


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize("layout", Layout)
def test_a_mixture_of_experts_is_one_line_before_weights_are_read(
    layout: Layout,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(QWEN2, tmp_path / "experts")
    if layout is Layout.HF:
        load(folder).config.save_pretrained(folder)
    change_language(folder, model_type=kind)
    monkeypatch.delattr("backend.local.load.load_network")
    assert app.main(["ask", "Q", "--model", str(folder)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert f"experts is {kind}, a mixture of experts" in said.err and "dense" in said.err


def test_a_variant_with_parts_of_its_own_is_refused(tmp_path: Path) -> None:
    """As InternVL3.5-Flash, whose routers would be left out and its answers be wrong."""
    folder = shutil.copytree(QWEN2, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors") | {"gating.0.weight": torch.ones(3, 3)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadCheckpoint, match=r"does not know \(gating\.0\.weight\)"):
        load_checkpoint(Settings(model=str(folder)), instant_composer(folder), lambda share: None)
