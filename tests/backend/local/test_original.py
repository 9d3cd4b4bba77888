"""The original layout answers as the official code did, token for token, and so does -hf."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from backend.checkpoint.facts import Layout, read_facts
from backend.checkpoint.tokenizer import read_tokens
from backend.checkpoint.tokens import Tokens
from backend.conversation import Answer, Conversation, Request, Sampling
from backend.errors import BadCheckpoint
from backend.local.engine import LocalEngine
from backend.local.load import load_checkpoint, load_network
from backend.local.model import LocalModel
from backend.local.original import SplitGrouped, convert_config
from backend.local.placement import Placement
from backend.prompt.compose import Composer
from backend.settings import Settings
from tests.backend.local.golden import (
    FOLDER,
    NAMES,
    DrawnMedia,
    RecordedCase,
    recorded,
    recorded_cases,
)
from tests.backend.local.stand_ins import ask

KEPT = ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json")


class ListeningEngine(LocalEngine):
    """An engine that tells the logits from which the first token of the last answer was taken."""

    def __init__(self, folder: Path) -> None:
        facts = read_facts(folder)
        self.composer_of_drawings = Composer(facts, read_tokens(folder), DrawnMedia(facts))  # type: ignore[arg-type]
        self.network: Any = None
        self.logits: list[torch.Tensor] = []
        super().__init__(
            Settings(model=str(folder)), self._load_listening, lambda _: self.composer_of_drawings
        )

    def _load_listening(self, *choices: Any) -> LocalModel:
        model = load_checkpoint(*choices)
        self.network = model._network
        self.network.lm_head.register_forward_hook(
            lambda module, taken, given: self.logits.append(given[0, -1])
        )
        return model


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def started(folder: Path) -> Iterator[ListeningEngine]:
    engine = ListeningEngine(folder)
    engine.start()
    "".join(engine.stream(ask("Hello", max_new_tokens=1)))  # ends when the model is loaded
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def engine(name: str) -> Iterator[ListeningEngine]:
    yield from started(FOLDER / name)


@pytest.fixture(scope="module")
def native(
    name: str, engine: ListeningEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ListeningEngine]:
    """The same weights in the -hf layout."""
    folder = tmp_path_factory.mktemp(name)
    save_file(engine.network.state_dict(), folder / "model.safetensors", {"format": "pt"})
    engine.network.config.save_pretrained(folder)
    for file in KEPT:
        shutil.copy(FOLDER / name / file, folder)
    yield from started(folder)


def test_every_recorded_answer_comes_out_token_for_token(
    name: str, engine: ListeningEngine
) -> None:
    cases = list(recorded_cases(name))
    assert len(cases) == 8
    for case in cases:
        replay(engine, name, case)


def test_the_same_weights_in_the_hf_layout_answer_the_same(
    name: str, engine: ListeningEngine, native: ListeningEngine
) -> None:
    assert native.composer is not None and native.composer.facts.layout is Layout.HF
    converted, saved = engine.network.state_dict(), native.network.state_dict()
    assert converted.keys() == saved.keys()
    assert all(torch.equal(converted[key], saved[key]) for key in converted)
    text, image, *_ = recorded_cases(name)
    for case in (text, image):
        replay(native, name, case)


def replay(engine: ListeningEngine, name: str, case: RecordedCase) -> None:
    sampling = Sampling(max_new_tokens=recorded(name)["max_new_tokens"])
    conversation = Conversation()
    for turn in case.turns:
        conversation = conversation.asked(turn.asked)
        engine.logits.clear()
        stream = engine.stream(Request(conversation, sampling))
        text = "".join(stream)
        assert engine.composer is not None
        told = engine.composer.tokens.decode(stream.token_ids)
        assert told.strip() == turn.response, case.kind
        if turn.ids:
            assert stream.token_ids == turn.ids, case.kind
            expected = torch.tensor(turn.first_token_logits)
            # A long prompt is read in several passes, the last of which tells the first token.
            apart = [(logits - expected).abs().max().item() for logits in engine.logits]
            assert min(apart) <= 1e-3, case.kind
        conversation = conversation.answered(Answer(text, stream.token_ids))


def test_the_mapping_of_weights_is_as_before_after_a_load_and_after_a_failed_one(
    tmp_path: Path,
) -> None:
    before = repr(get_checkpoint_conversion_mapping("internvl"))
    folder = shutil.copytree(FOLDER / "qknorm-112", tmp_path / "copy")
    load(folder)
    assert repr(get_checkpoint_conversion_mapping("internvl")) == before
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(Exception):  # noqa: B017, PT011 (what the library raises is its business)
        load(folder)
    assert repr(get_checkpoint_conversion_mapping("internvl")) == before


def test_weights_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / "qknorm-112", tmp_path / "copy")
    set_language(folder, "num_hidden_layers", 4)
    with pytest.raises(BadCheckpoint, match=r"lacks \d+ weights, model\.language_model\.layers\.3"):
        load(folder)


def test_a_foreign_language_part_is_refused() -> None:
    config = json.loads((FOLDER / "qknorm-112" / "config.json").read_text())
    config["llm_config"]["architectures"] = ["Phi3ForCausalLM"]
    with pytest.raises(BadCheckpoint, match="Phi3ForCausalLM"):
        convert_config(config, tokens_of("qknorm-112"))


def test_fused_rows_are_split_by_key_value_head() -> None:
    # Two key/value heads of two queries each; a head is one row.
    fused = torch.tensor([[10], [11], [1], [2], [20], [21], [3], [4]])
    split = SplitGrouped(key_value_heads=2, group=2).convert({"w": [fused]}, ["w"], ["q", "k", "v"])
    assert {name: rows.flatten().tolist() for name, rows in split.items()} == {
        "q": [10, 11, 20, 21],
        "k": [1, 3],
        "v": [2, 4],
    }


def set_language(folder: Path, setting: str, value: int) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["llm_config"][setting] = value
    (folder / "config.json").write_text(json.dumps(config))


def load(folder: Path) -> None:
    load_network(
        folder,
        Layout.ORIGINAL,
        read_tokens(folder),
        Placement(torch.float32),
        report=lambda share: None,
    )


def tokens_of(name: str) -> Tokens:
    return read_tokens(FOLDER / name)
