"""Adapters: the same answers as with matrices merged by hand, and refusals of what does not fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import app
from backend.checkpoint.facts import Layout, read_facts
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.checkpoint.tokenizer import read_tokens
from backend.errors import BadCheckpoint
from backend.local.adapter import apply_adapter, read_adapter
from backend.local.load import load_checkpoint, load_network
from backend.local.placement import Placement
from backend.planner.configs import read_shape
from backend.planner.costs import Quantization
from backend.planner.devices import CPU, DISK
from backend.planner.shapes import LAYERS
from backend.settings import Settings
from tests.backend.local.adapters import (
    ALPHA,
    RANK,
    draw_pairs,
    leave_unmerged,
    merge_by_hand,
    save_adapter,
)
from tests.backend.local.golden import FOLDER, draw
from tests.backend.local.stand_ins import instant_composer

QWEN, INTERNLM = FOLDER / "qknorm-112", FOLDER / "internlm2-112"
SCALE = ALPHA / RANK


def pairs_of(folder: Path, seed: int = 1) -> dict[str, Any]:
    return draw_pairs(load_file(folder / "model.safetensors"), seed)


def load(folder: Path, quantize: Quantization | None = None, **places: Any) -> Any:
    placement = Placement(torch.float32, quantize=quantize, **places)
    tokens = read_tokens(folder)
    return load_network(folder, read_facts(folder).layout, tokens, placement, lambda share: None)


def make_native(source: Path, folder: Path) -> Path:
    """The weights of an original, saved in the other layout."""
    shutil.copytree(source, folder)
    network = load(source)
    save_file(network.state_dict(), folder / "model.safetensors", {"format": "pt"})
    network.config.save_pretrained(folder)
    assert read_facts(folder).layout is Layout.HF
    return folder


def as_saved(module: str) -> str:
    """What transformers calls a module in its files: as versions before 4.52 had it."""
    inside = module.removeprefix("model.")
    return inside.replace("language_model.", "language_model.model.", 1)


def as_loaded(module: str) -> str:
    """What it calls the same module in memory."""
    return f"model.{module.replace('language_model.model.', 'language_model.', 1)}"


def in_half_peft(module: str) -> str:
    """How it is called when peft wraps the parts of a model instead of the whole."""
    part, _, rest = module.partition(".")
    return f"{part}.base_model.model.{rest}"


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Ids of two answers through the command line, the second one about a picture too."""
    picture = tmp_path / "picture.png"
    draw(150, 100, 3).save(picture)

    def run(model: Path, *words: str) -> Any:
        asked = ["ask", "What is this?", "--image", str(picture), "--then", "And where?"]
        options = ["--model", str(model), "--max-new-tokens", "12", "--json", *words]
        assert app.main([*asked, *options]) == 0
        return [turn["token_ids"] for turn in json.loads(capsys.readouterr().out)["turns"]]

    return run


@pytest.mark.parametrize(("source", "call"), [(QWEN, str), (QWEN, in_half_peft), (INTERNLM, str)])
def test_an_original_with_an_adapter_answers_as_one_merged_by_hand(
    source: Path, call: Callable[[str], str], tmp_path: Path, ask: Callable[..., Any]
) -> None:
    pairs = pairs_of(source)
    adapter = save_adapter(tmp_path / "adapter", pairs, call)
    merged = merge_by_hand(source, tmp_path / "merged", pairs, SCALE)
    assert ask(source, "--adapter", str(adapter)) == ask(merged) != ask(source)


@pytest.mark.parametrize("call", [str, as_saved])
@pytest.mark.parametrize("original", [QWEN, INTERNLM], ids=lambda folder: folder.name)
def test_the_hf_layout_with_an_adapter_answers_as_one_merged_by_hand(
    original: Path, call: Callable[[str], str], tmp_path: Path, ask: Callable[..., Any]
) -> None:
    source = make_native(original, tmp_path / "native")
    pairs = pairs_of(source)
    adapter = save_adapter(tmp_path / "adapter", pairs, call)
    merged = merge_by_hand(source, tmp_path / "merged", pairs, SCALE)
    assert ask(source, "--adapter", str(adapter)) == ask(merged) != ask(source)


@pytest.mark.parametrize("source", [QWEN, INTERNLM], ids=lambda folder: folder.name)
def test_every_matrix_is_the_one_merged_by_hand(source: Path, tmp_path: Path) -> None:
    pairs = pairs_of(source)
    network, hand = load(source), load(merge_by_hand(source, tmp_path / "m", pairs, SCALE))
    before = {name: values.clone() for name, values in network.state_dict().items()}
    apply_adapter(network, read_adapter(save_adapter(tmp_path / "a", pairs), read_shape(source)))
    merged = network.state_dict()
    for name, values in hand.state_dict().items():
        assert_close(merged[name], values, rtol=0, atol=1e-6)
    changed = [name for name in merged if not torch.equal(merged[name], before[name])]
    assert len(changed) == 3 * 7 + 2 * 6  # layers of the language part and of the vision tower


def test_an_adapter_of_the_original_names_fits_the_same_model_in_the_hf_layout(
    tmp_path: Path,
) -> None:
    adapter = save_adapter(tmp_path / "adapter", pairs_of(QWEN))
    shape = read_shape(QWEN)
    original, native = load(QWEN), load(make_native(QWEN, tmp_path / "native"))
    for network in (original, native):
        apply_adapter(network, read_adapter(adapter, shape))
    other = native.state_dict()
    assert all(torch.equal(v, other[name]) for name, v in original.state_dict().items())


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 3, "language_model.layers.1.mlp.up_proj": 7}},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_changes_count_as_peft_itself_counts_them(config: Any, tmp_path: Path) -> None:
    pairs = pairs_of(BUNDLED_FOLDER)
    adapter = save_adapter(tmp_path / "adapter", pairs, as_loaded, **config)
    network = load(BUNDLED_FOLDER)
    apply_adapter(network, read_adapter(adapter, read_shape(BUNDLED_FOLDER)))
    theirs = PeftModel.from_pretrained(load(BUNDLED_FOLDER), adapter).merge_and_unload()
    for name, values in theirs.state_dict().items():
        assert_close(network.state_dict()[name], values, rtol=0, atol=1e-6)


def test_what_is_saved_whole_replaces_what_was_there(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", pairs_of(QWEN))
    tensors = load_file(folder / "adapter_model.safetensors")
    bridge = load_file(QWEN / "model.safetensors")["mlp1.1.weight"] + 1
    tensors["base_model.model.mlp1.1.weight"] = bridge
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    network = load(QWEN)
    apply_adapter(network, read_adapter(folder, read_shape(QWEN)))
    assert torch.equal(network.model.multi_modal_projector.linear_1.weight, bridge)


@pytest.mark.parametrize("source", [QWEN, INTERNLM], ids=lambda folder: folder.name)
def test_a_checkpoint_that_fine_tuning_left_unmerged_answers_as_one_merged_by_hand(
    source: Path, tmp_path: Path, ask: Callable[..., Any]
) -> None:
    pairs = pairs_of(source)
    unmerged = leave_unmerged(source, tmp_path / "unmerged", pairs)
    merged = merge_by_hand(source, tmp_path / "merged", pairs, scale=2)
    assert ask(unmerged) == ask(merged) != ask(source)


def test_a_lora_that_the_configuration_does_not_tell_of_is_refused(tmp_path: Path) -> None:
    folder = leave_unmerged(QWEN, tmp_path / "unmerged", pairs_of(QWEN))
    shutil.copy(QWEN / "config.json", folder)
    settings = Settings(model=str(folder))
    with pytest.raises(BadCheckpoint, match="LoRA beside its weights"):
        load_checkpoint(settings, instant_composer(folder), lambda share: None)


@pytest.fixture(params=["int8", "nf4", "disk"])
def reserved(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Loads the bundled checkpoint so that nothing can be added to its matrices."""
    names = read_shape(BUNDLED_FOLDER).modules
    places: dict[str, int | str] = {n: DISK if n.startswith(LAYERS) else CPU for n in names}
    if request.param == "disk":
        return lambda: load(BUNDLED_FOLDER, device_map=places)
    return lambda: load(BUNDLED_FOLDER, Quantization(request.param))


def test_what_cannot_be_added_to_is_attached(reserved: Callable[[], Any], tmp_path: Path) -> None:
    pairs = pairs_of(BUNDLED_FOLDER)
    adapter = save_adapter(tmp_path / "adapter", pairs)
    network = reserved()
    module = network.model.language_model.layers[1].mlp.up_proj
    down, up = pairs["language_model.model.layers.1.mlp.up_proj"]
    taken = torch.randn(1, 4, down.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = module(taken)
        apply_adapter(network, read_adapter(adapter, read_shape(BUNDLED_FOLDER)))
        assert_close(module(taken), plain + SCALE * taken @ down.T @ up.T, rtol=1e-4, atol=1e-5)


def test_an_attached_adapter_answers_nearly_as_a_merged_one(
    reserved: Callable[[], Any], tmp_path: Path
) -> None:
    adapter = save_adapter(tmp_path / "adapter", pairs_of(BUNDLED_FOLDER))
    shape, ids = read_shape(BUNDLED_FOLDER), torch.arange(1, 60)[None]
    plain, attached, merged = reserved(), reserved(), load(BUNDLED_FOLDER)
    for network in (attached, merged):
        apply_adapter(network, read_adapter(adapter, shape))
    with torch.inference_mode():
        logits = [n(input_ids=ids).logits.double() for n in (attached, plain, merged)]
    near, far = (torch.cosine_similarity(logits[2], other, dim=-1).mean() for other in logits[:2])
    assert near > 0.96 > 0.93 > far


def change(folder: Path, **config: Any) -> None:
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(told | config))


def spoil_config(**config: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder, **config)


def spoil_weights(alter: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        alter(tensors)
        save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})

    return spoil


FIRST = "base_model.model.language_model.model.layers.0.mlp.up_proj"


def grow(tensors: dict[str, Any]) -> None:
    tensors[f"{FIRST}.lora_B.weight"] = torch.ones(9, RANK)


def keep_first_layers(tensors: dict[str, Any]) -> None:
    for name in [name for name in tensors if ".layers.4." in name]:
        del tensors[name]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "There is no folder"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no adapter_model.safe"),
        (
            lambda folder: (folder / "adapter_model.safetensors").rename(
                folder / "adapter_model.bin"
            ),
            "run code when opened",
        ),
        (
            lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"version https"),
            "cannot be read",
        ),
        (spoil_config(peft_type="LOHA"), "of the kind LOHA, not LoRA"),
        (spoil_config(use_dora=True), r"more than a plain LoRA \(use_dora\)"),
        (spoil_config(init_lora_weights="pissa"), "begun with 'pissa'"),
        (spoil_config(lora_alpha=None), "has no lora_alpha"),
        (spoil_weights(grow), r"up_proj.weight would be 9 x 192 and is 512 x 192"),
        (spoil_weights(lambda t: t.pop(f"{FIRST}.lora_B.weight")), "Half of .* is missing"),
        (
            spoil_weights(lambda t: t.update({f"{FIRST}.lora_magnitude_vector": torch.ones(9)})),
            "lora_magnitude_vector, which is not there",
        ),
        (
            spoil_weights(lambda t: t.update({"base_model.model.other.weight": torch.ones(9)})),
            "other.weight, which is not there",
        ),
        (spoil_weights(keep_first_layers), "it has 4 layers of model.language_model.layers, of 5"),
        (spoil_weights(dict.clear), "changes nothing"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    spoil: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    folder = save_adapter(tmp_path / "adapter", pairs_of(BUNDLED_FOLDER))
    shape = read_shape(BUNDLED_FOLDER)
    assert read_adapter(folder, shape).changes
    spoil(folder)
    with pytest.raises(BadCheckpoint, match=words):
        read_adapter(folder, shape)


@pytest.mark.parametrize(("source", "fused"), [(QWEN, "attn.qkv"), (INTERNLM, "attention.wqkv")])
def test_rows_that_do_not_divide_as_a_fused_matrix_s_are_of_another_checkpoint(
    source: Path, fused: str, tmp_path: Path
) -> None:
    folder = save_adapter(tmp_path / "lora", pairs_of(source))

    def cut(tensors: dict[str, Any]) -> None:
        name = next(key for key in tensors if f"{fused}.lora_B" in key)
        tensors[name] = torch.ones(2, RANK)

    spoil_weights(cut)(folder)
    with pytest.raises(BadCheckpoint, match="lora was not made for .* fused matrices are of other"):
        read_adapter(folder, read_shape(source))


def test_some_layers_may_be_trained_alone_if_it_says_so(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", pairs_of(BUNDLED_FOLDER))
    spoil_weights(keep_first_layers)(folder)
    change(folder, layers_to_transform=[0, 1, 2, 3])
    assert read_adapter(folder, read_shape(BUNDLED_FOLDER)).changes


@pytest.mark.parametrize(("trained", "given"), [(QWEN, BUNDLED_FOLDER), (BUNDLED_FOLDER, QWEN)])
def test_an_adapter_of_another_checkpoint_is_one_line_before_weights_are_read(
    trained: Path,
    given: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    adapter = save_adapter(tmp_path / "lora", pairs_of(trained))
    monkeypatch.delattr("backend.local.load.load_network")
    assert app.main(["ask", "Q", "--model", str(given), "--adapter", str(adapter)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("The adapter lora was not made for ")


def test_a_whole_checkpoint_is_no_adapter() -> None:
    with pytest.raises(BadCheckpoint, match="whole checkpoint, not an adapter.*--model"):
        read_adapter(QWEN, read_shape(QWEN))


def test_a_whole_matrix_cannot_replace_a_quantised_one(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", pairs_of(BUNDLED_FOLDER))
    whole = torch.ones(512, 192)
    spoil_weights(lambda tensors: tensors.update({f"{FIRST}.weight": whole}))(folder)
    network = load(BUNDLED_FOLDER, Quantization.NF4)
    with pytest.raises(BadCheckpoint, match="replaces .*up_proj.weight, which is quantised"):
        apply_adapter(network, read_adapter(folder, read_shape(BUNDLED_FOLDER)))


def test_the_name_tells_of_the_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = save_adapter(tmp_path / "mine", pairs_of(QWEN))
    words = ["--model", str(QWEN), "--adapter", str(adapter), "--max-new-tokens", "1", "--json"]
    assert app.main(["ask", "Q", *words]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "qknorm-112 + mine"
