"""The lean network is the real architecture, and the trainer makes its loss fall."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import InternVLForConditionalGeneration

from training.evaluate import see
from training.export import export, save_checkpoint
from training.labels import label_patches
from training.lessons import teach
from training.losses import PATCH_CLASSES, answer_loss, patch_loss
from training.network import Network, Shape, patchify
from training.optimizer import Optimizer, Rates, orthogonalise
from training.scenes import draw_scene
from training.sequences import pad_rows
from training.tokenizer import Codec
from training.train import parse_plan

SMALL = Shape(vision_layers=2, layers=2)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec()


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(SMALL, PATCH_CLASSES)


def test_the_default_network_has_five_and_a_half_million_parameters() -> None:
    count = sum(parameter.numel() for parameter in Network(Shape()).parameters())
    assert round(count / 1e6, 2) == 5.49


@pytest.mark.parametrize("family", ["scene", "pair"])
def test_the_export_gives_the_same_logits_as_transformers(
    codec: Codec, network: Network, family: str
) -> None:
    torch.nn.init.normal_(network.first)
    lesson = teach(random.Random(1), codec, family, 160)
    ids = torch.tensor([lesson.row.ids])
    at = (ids.reshape(-1) == codec.special["<IMG_CONTEXT>"]).nonzero()[:, 0]
    tiles = torch.from_numpy(np.stack(lesson.tiles))
    with torch.inference_mode():
        seen = network.see(patchify(tiles))
        plain = torch.zeros_like(ids), torch.arange(ids.shape[1])[None]
        ours = network.read(ids, seen, at, *plain)
        pixels = see(list(lesson.tiles))
        theirs = export(network, codec)(input_ids=ids, pixel_values=pixels).logits[0]
    assert theirs.abs().max() > 0.1
    assert (ours - theirs).abs().max() < 1e-3


def test_separate_questions_are_read_as_if_each_were_the_only_one(
    codec: Codec, network: Network
) -> None:
    rng = random.Random(0)
    lesson = teach(rng, codec, "scene", 208)
    while max(lesson.row.segments) < 2:
        lesson = teach(rng, codec, "scene", 208)
    arrays = pad_rows(codec, [lesson.row])
    ids, segments, positions = (
        torch.from_numpy(part) for part in (arrays.ids, arrays.segments, arrays.positions)
    )
    at = torch.from_numpy(arrays.pictures_at)
    alone = ((segments == 0) | (segments == 2))[0] & (
        torch.arange(ids.shape[1]) < len(lesson.row.ids)
    )
    with torch.inference_mode():
        seen = network.see(patchify(torch.from_numpy(np.stack(lesson.tiles))))
        together = network.read(ids, seen, at, segments, positions)[alone]
        kept = ids[:, alone], seen, at, segments[:, alone] * 0, positions[:, alone]
        single = network.read(*kept)
    assert (together - single).abs().max() < 1e-4


def test_the_saved_folder_loads_and_states_its_facts(
    codec: Codec, network: Network, tmp_path: Path
) -> None:
    save_checkpoint(network, codec, tmp_path)
    model = InternVLForConditionalGeneration.from_pretrained(tmp_path)
    assert model.config.image_seq_length == 16
    assert model.config.system_message.startswith("你是书生")
    ends = [codec.special["<|im_end|>"], codec.special["<|endoftext|>"]]
    assert model.generation_config.eos_token_id == ends
    assert (tmp_path / "tokenizer.json").read_bytes() == (
        codec.folder / "tokenizer.json"
    ).read_bytes()


def test_orthogonalise_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for rows, columns in ((24, 48), (48, 24)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(3, rows, columns)))
        assert values.min() > 0.3
        assert values.max() < 1.6


def test_a_few_steps_lower_both_losses(codec: Codec) -> None:
    torch.manual_seed(0)
    network = Network(Shape(vision_layers=1, layers=1), PATCH_CLASSES)
    rng = random.Random(2)
    lessons = [teach(rng, codec, "scene", 120) for _ in range(2)]
    scene = draw_scene(rng, count=2)
    tiles = torch.from_numpy(np.stack([lesson.tiles[0] for lesson in lessons] + [scene.tiles[0]]))
    optimizer = Optimizer(network, Rates(muon=0.02, adam=2e-3))
    losses = []
    for _ in range(6):
        seen = network.see(patchify(tiles))
        answers = answer_loss(network, codec, lessons, seen[:2])
        sight = patch_loss(network, seen, [None, None, label_patches(scene)])
        (answers + sight).backward()
        gradients = {name: value.grad for name, value in network.named_parameters()}
        optimizer.step(gradients, share=1.0)
        network.zero_grad()
        losses.append((answers.item(), sight.item()))
    assert losses[-1][0] < 0.8 * losses[0][0]
    assert losses[-1][1] < 0.8 * losses[0][1]


def test_a_frozen_tower_gets_no_gradient(network: Network) -> None:
    tiles = torch.from_numpy(np.stack([draw_scene(random.Random(1)).tiles[0]]))
    network.see(patchify(tiles), frozen=True).sum().backward()
    assert network.patch.weight.grad is None
    assert network.project_in.weight.grad is not None


def test_the_rate_rises_holds_and_falls() -> None:
    plan = parse_plan(["--out", "run", "--minutes", "100", "--hold", "0.5"])
    assert plan.rate_share(0, 0) < 0.1
    assert plan.rate_share(30 * 60, 1000) == 1
    assert plan.rate_share(75 * 60, 1000) == pytest.approx(0.5)
    assert plan.rate_share(100 * 60, 1000) < 0.05


def test_small_talk_alone_can_be_learnt(network: Network, codec: Codec) -> None:
    rng = random.Random(3)
    lessons = [teach(rng, codec, "text", 200) for _ in range(9)]
    silent = [lesson for lesson in lessons if not lesson.tiles][:3]
    assert silent
    loss = answer_loss(network, codec, silent, None)
    loss.backward()
    assert torch.isfinite(loss)
