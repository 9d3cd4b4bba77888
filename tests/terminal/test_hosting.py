"""What `--model auto` means on scripted machines, and how a Space starts the app."""

from collections.abc import Callable

import pytest

from backend.planner.devices import CPU, GB, Device, Machine, make_gpus
from backend.settings import Settings
from terminal.arguments import Serve, read_command
from terminal.hosting import settle_model, words_of_host

PROCESSOR = Device(CPU, 16 * GB)
GPU = Machine(make_gpus(24), PROCESSOR)


def settle(
    machine: Machine,
    here: tuple[str, ...] = (),
    fetchable: Callable[[str, int], bool] = lambda model, size_bytes: True,
) -> str:
    return settle_model(Settings("auto"), lambda: machine, here.__contains__, fetchable).model


def never(model: str, size_bytes: int) -> bool:
    return False


def test_a_model_that_was_named_is_left_alone_and_nothing_is_looked_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> bool:
        raise AssertionError("nobody asked")

    settings = Settings("2B")
    assert settle_model(settings, refuse, refuse, refuse) is settings  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""


def test_in_front_of_other_engines_auto_names_no_checkpoint() -> None:
    settings = Settings("auto", engines=("http://one:8000/v1",))
    assert settle_model(settings, lambda: GPU).model == Settings().model


def test_auto_is_the_largest_that_fits_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert settle(GPU) == "8B"
    assert settle(Machine(cpu=PROCESSOR)) == "1B"
    first, second = capsys.readouterr().err.splitlines()
    assert first == "--model auto is 8B on 1 × 24 GB: the largest that fits and can be had."
    assert "1B on 16 GB on the CPU" in second


def test_without_a_hub_auto_is_the_largest_that_is_here() -> None:
    assert settle(GPU, here=("1B", "2B"), fetchable=never) == "2B"
    assert settle(GPU, here=("38B",), fetchable=never) == "bundled"


def test_the_hub_is_asked_once_and_told_the_size(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[str, int]] = []

    def refuse(model: str, size_bytes: int) -> bool:
        asked.append((model, size_bytes))
        return False

    assert settle(GPU, fetchable=refuse) == "bundled"
    ((model, size_bytes),) = asked
    assert model == "8B" and size_bytes == pytest.approx(15.9 * GB, rel=0.01)
    assert "8B would fit but cannot be fetched" in capsys.readouterr().err


def test_where_nothing_fits_the_bundled_one_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert settle(Machine(cpu=Device(CPU, GB))) == "bundled"
    assert "no other size fits" in capsys.readouterr().err


def test_a_space_is_served_where_spaces_look_for_it() -> None:
    words = words_of_host({"SPACE_ID": "someone/chat", "HOME": "/home/user"})
    command = read_command(words)
    assert command == Serve(Settings("auto", host="0.0.0.0", port=7860))


def test_where_gpus_are_lent_a_size_that_is_quickly_moved_is_served() -> None:
    command = read_command(words_of_host({"SPACE_ID": "a/b", "SPACES_ZERO_GPU": "true"}))
    assert isinstance(command, Serve) and command.settings.model == "8B"


def test_elsewhere_nothing_of_the_environment_counts() -> None:
    assert list(words_of_host({"GRADIO_SERVER_NAME": "0.0.0.0", "SPACE_ID": ""})) == []
