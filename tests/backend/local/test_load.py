"""Loading: which device and precision, how much is done, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging as transformers_logging

from backend.checkpoint.find import BUNDLED_FOLDER
from backend.conversation import End
from backend.engine import State
from backend.errors import BadCheckpoint
from backend.local.engine import LocalEngine
from backend.local.load import load_checkpoint, spare_a_core
from backend.settings import Settings
from tests.backend.local.stand_ins import ask, instant_composer


def test_the_share_done_grows_from_none_to_all() -> None:
    shares: list[float] = []
    load_checkpoint(Settings(), instant_composer(), shares.append)
    assert shares[0] == 0 and shares[-1] == 1
    assert shares == sorted(shares) and len(set(shares)) > 50


def test_loading_draws_no_bars_and_leaves_the_hook_of_others(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def theirs(draw: Any, args: Any, choices: Any) -> Any:
        return draw(*args, **choices)

    before = transformers_logging.set_tqdm_hook(theirs)
    try:
        load_checkpoint(Settings(), instant_composer(), lambda share: None)
    finally:
        assert transformers_logging.set_tqdm_hook(before) is theirs
    assert "Loading" not in "".join(capfd.readouterr())


def test_what_the_report_raises_ends_the_loading() -> None:
    class Enough(Exception):
        pass

    def report(share: float) -> None:
        if share > 0.5:
            raise Enough

    with pytest.raises(Enough):
        load_checkpoint(Settings(), instant_composer(), report)


def test_the_model_tells_where_and_how_it_runs() -> None:
    model = load_checkpoint(Settings(), instant_composer(), lambda share: None)
    assert (model.device, model.precision, model.attention) == ("cpu", "float32", "sdpa")


def test_weights_that_are_missing_are_refused_not_made_up(tmp_path: Path) -> None:
    folder = shutil.copytree(BUNDLED_FOLDER, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadCheckpoint, match=r"lacks \d+ weights, model\.vision_tower"):
        load_checkpoint(Settings(model=str(folder)), instant_composer(folder), lambda share: None)


def test_weights_of_another_shape_are_told_and_the_engine_says_failed(tmp_path: Path) -> None:
    folder = shutil.copytree(BUNDLED_FOLDER, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    engine = LocalEngine(Settings(model=str(folder)), open_=lambda _: instant_composer(folder))
    engine.start()
    with pytest.raises(BadCheckpoint, match="another shape"):
        "".join(engine.stream(ask("Hello")))
    engine.close()
    assert engine.status().state is State.FAILED


def test_a_checkpoint_without_weights_is_told_by_the_engine(tmp_path: Path) -> None:
    folder = shutil.copytree(BUNDLED_FOLDER, tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    engine = LocalEngine(Settings(model=str(folder)), open_=lambda _: instant_composer(folder))
    engine.start()
    with pytest.raises(BadCheckpoint, match="no weights"):
        "".join(engine.stream(ask("Hello")))
    engine.close()


def test_the_bundled_checkpoint_answers() -> None:
    engine = LocalEngine(Settings(), open_=lambda _: instant_composer())
    engine.start()
    stream = engine.stream(ask("Hello, who are you?", max_new_tokens=40))
    assert "InternVL" in "".join(stream)
    assert stream.statistics is not None and stream.statistics.end is End.EOS
    status = engine.status()
    assert (status.model, status.state, status.waiting) == ("checkpoint", State.READY, 0)
    engine.close()


@pytest.mark.parametrize(("cores", "taken"), [(4, 3), (1, 1)])
def test_one_core_is_left_to_the_page_however_often_a_model_is_loaded(
    cores: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("backend.local.load.THREADS", cores)
    try:
        for _ in range(3):
            spare_a_core()
            assert torch.get_num_threads() == taken
    finally:
        torch.set_num_threads(before)
