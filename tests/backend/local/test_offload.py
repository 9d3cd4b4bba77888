"""Layers that lie on the disk: the same answers, told as what they are, and nothing left behind."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from backend.checkpoint.facts import read_facts
from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import Attachment, Conversation, Kind, Request, Sampling, Turn
from backend.errors import OutOfMemory
from backend.local import load as load_module
from backend.local.choices import decide
from backend.local.engine import LocalEngine
from backend.local.load import load_network
from backend.local.model import LocalModel
from backend.local.placement import Placement
from backend.local.preparation import prepare
from backend.planner.configs import read_shape
from backend.planner.devices import CPU, DISK, GB, Device, Machine
from backend.planner.shapes import LAYERS, PROJECTOR, VISION
from backend.settings import Settings
from backend.stream import AnswerStream
from tests.backend.local.golden import FOLDER, DrawnMedia
from tests.backend.local.stand_ins import ask, instant_composer

PICTURE = Attachment("200,300,1", Kind.IMAGE, "p", max_tiles=6)


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where stores are made."""
    monkeypatch.setattr(
        load_module, "TemporaryDirectory", lambda prefix: TemporaryDirectory(dir=tmp_path)
    )
    return tmp_path


def places(folder: Path, on_disk: Callable[[str], bool]) -> dict[str, int | str]:
    """A device map of the processor and the disk."""
    return {name: DISK if on_disk(name) else CPU for name in read_shape(folder).modules}


def load(folder: Path, device_map: dict[str, int | str] | None = None) -> LocalModel:
    placement = Placement(torch.float32, device_map=device_map or {"": CPU})
    composer = instant_composer(folder)
    facts, tokens = composer.facts, composer.tokens
    network = load_network(folder, facts.layout, tokens, placement, lambda share: None)
    return LocalModel(network, facts, tokens)


def answer(model: LocalModel, folder: Path) -> tuple[int, ...]:
    sampling = Sampling(max_new_tokens=5)
    stream = AnswerStream(Request(Conversation((Turn("What is this?", (PICTURE,)),)), sampling))
    prepared = prepare(instant_composer(folder, DrawnMedia(read_facts(folder))), stream)
    model.answer(prepared, stream)
    return stream.token_ids


@pytest.mark.parametrize(
    "on_disk",
    [
        lambda name: name in (f"{LAYERS}.0", f"{LAYERS}.2"),
        lambda name: name in (VISION, PROJECTOR),
        lambda name: name.startswith((f"{LAYERS}.", VISION)),
    ],
    ids=["layers", "the vision tower", "all that may be"],
)
@pytest.mark.parametrize(
    "folder", [BUNDLED_FOLDER, FOLDER / "internlm2-112"], ids=lambda folder: folder.name
)
def test_what_lies_on_the_disk_answers_as_in_memory(
    folder: Path, on_disk: Callable[[str], bool], stores: Path
) -> None:
    plain, stored = load(folder), load(folder, places(folder, on_disk))
    assert (plain.device, stored.device) == ("cpu", "cpu + disk")
    assert stored.precision == "float32"
    assert answer(stored, folder) == answer(plain, folder) != ()
    stored.recover(short=False)


def test_a_store_lives_as_long_as_its_network(stores: Path) -> None:
    model = load(BUNDLED_FOLDER, places(BUNDLED_FOLDER, lambda name: name == f"{LAYERS}.1"))
    assert list(stores.iterdir())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None and not list(stores.iterdir())


def test_a_failed_load_leaves_no_store(stores: Path) -> None:
    class Enough(Exception):
        pass

    def report(share: float) -> None:
        if share > 0.5:
            raise Enough

    placement = Placement(torch.float32, device_map=places(BUNDLED_FOLDER, lambda n: n == VISION))
    composer = instant_composer()
    layout, tokens = composer.facts.layout, composer.tokens
    with pytest.raises(Enough):
        load_network(BUNDLED_FOLDER, layout, tokens, placement, report)
    assert not list(stores.iterdir())


def test_where_memory_is_scarce_the_engine_offloads_if_it_may(
    stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(offload=True, context=256, dtype="float32")
    roomy = Machine(cpu=Device(CPU, 64 * GB))
    (load_in_memory,) = decide(settings, read_shape(BUNDLED_FOLDER), roomy).plan.loads
    scarce = Machine(cpu=Device(CPU, load_in_memory.used_bytes - 1), disk=Device(DISK, GB))
    monkeypatch.setattr(load_module, "find_machine", lambda: scarce)
    for allowed in (False, True):
        chosen = Settings(offload=allowed, context=256, dtype="float32")
        engine = LocalEngine(chosen, open_=lambda _: instant_composer())
        engine.start()
        stream: Any = engine.stream(ask("Hello, who are you?", max_new_tokens=40))
        if allowed:
            assert "InternVL" in "".join(stream)
            assert engine.status().device == "cpu + disk"
            assert list(stores.iterdir())
        else:
            with pytest.raises(OutOfMemory):
                "".join(stream)
        engine.close()
        assert not list(stores.iterdir())
