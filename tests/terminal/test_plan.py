import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.errors import BadCheckpoint, BadInput
from backend.planner.costs import Dtype, Quantization
from backend.planner.plan import Strategy
from backend.planner.shapes import EMBEDDINGS, HEAD, LAYERS, NORM, PROJECTOR, ROTARY, VISION
from backend.planner.sizes import SIZES
from terminal.plan import MakePlan, make_plan, read_plan
from tests.backend.planner.loras import write_lora

ROOT = Path(__file__).parents[2]
ORIGINALS = ROOT / "tests" / "golden" / "original"
WEIGHTS_GB = {"1B": 1.88, "2B": 4.18, "8B": 15.89, "14B": 30.23, "38B": 76.78, "78B": 156.8}


def run(line: str) -> None:
    assert make_plan(read_plan(shlex.split(line))) == 0


def plan(line: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    run(f"{line} --json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_words_become_a_command() -> None:
    words = (
        "8B --gpus 24,23.5 --ram 64 --dtype float16 --quantize nf4 --context 4096 --tiles 4 "
        "--strategy card --offload --adapter lora --json --markdown"
    )
    assert read_plan(words.split()) == MakePlan(
        "8B",
        (24, 23.5),
        64,
        False,
        Dtype.FLOAT16,
        Quantization.NF4,
        4096,
        4,
        Strategy.CARD,
        True,
        Path("lora"),
        True,
        True,
    )
    assert read_plan([]) == MakePlan()


def test_the_object_has_these_keys_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan("38B --gpus 24,24", capsys)
    assert list(found) == ["model", "fits", "strategy", "device_map", "devices", "advice"]
    assert (found["model"], found["fits"], found["strategy"]) == ("38B", False, "balanced")
    layers = {f"{LAYERS}.{index}" for index in range(64)}
    assert set(found["device_map"]) == {VISION, PROJECTOR, EMBEDDINGS, NORM, ROTARY, HEAD} | layers
    assert [device["name"] for device in found["devices"]] == ["cuda:0", "cuda:1"]
    for device in found["devices"]:
        assert list(device) == [
            "name",
            "free_bytes",
            "weights_bytes",
            "kv_bytes",
            "activation_bytes",
        ]
        assert device["free_bytes"] == 24_000_000_000
    assert sum(device["weights_bytes"] for device in found["devices"]) == 2 * 38_388_164_992 + 512
    assert sum(device["kv_bytes"] for device in found["devices"]) == 262_144 * 16_384
    assert found["advice"] == [
        "nf4 (--quantize nf4)",
        "14B",
        "an engine on another machine, with 2 × 48 GB",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "38B --gpus 24,24",
        "8B --gpus 16",
        "8B --gpus 17.5",
        "14B --gpus 12",
        "78B --gpus 24,24,24,24,24,24,24,24",
        "8B --gpus 24 --dtype float32",
        "14B --gpus 16,16 --strategy single",
        "38B --gpus 24,24,80 --strategy card",
        "38B --gpus 10,10 --quantize nf4 --ram 128",
        "2B --gpus 4.6 --context 32768",
        "8B --ram 12",
    ],
)
def test_each_way_out_asked_for_in_its_own_words_fits(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = plan(line, capsys)
    assert not refused["fits"]
    assert 1 <= len(refused["advice"]) <= 3
    for way in refused["advice"]:
        assert plan(follow(line, way), capsys)["fits"], way


def follow(line: str, way: str) -> str:
    """The command line that takes a way out."""
    if elsewhere := re.search(r"with (\d+) × (\d+) GB", way):
        gpus = ",".join([elsewhere[2]] * int(elsewhere[1]))
        without = re.sub(r"--(gpus|ram|strategy) \S+", "", line)
        return f"{without} --gpus {gpus}"
    if option := re.search(r"\((--.*)\)", way):
        flag = option[1].split()[0]
        return f"{re.sub(rf'{flag} [^ ]+', '', line)} {option[1]}"
    return re.sub(r"^\S+", way, line)


@pytest.mark.parametrize("line", ["assets/checkpoint", "bundled", *map(str, ORIGINALS.iterdir())])
def test_a_folder_is_planned_from_its_config(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    found = plan(f"{line} --gpus 1", capsys)
    assert found["fits"]
    assert found["model"] == Path(line).name


def test_on_the_cpu_a_checkpoint_is_planned_in_the_dtype_of_its_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = ORIGINALS / "qknorm-112"
    (on_cpu,) = plan(f"{folder} --ram 4", capsys)["devices"]
    (on_gpu,) = plan(f"{folder} --gpus 4", capsys)["devices"]
    assert on_cpu["name"] == "cpu"
    assert on_cpu["weights_bytes"] - on_gpu["weights_bytes"] == 2 * 325_248


def test_on_the_cpu_float32_is_planned_where_it_fills_half_of_the_memory_at_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parameters = 938_193_024
    for line, element in (("1B --ram 8", 4), ("1B --ram 7", 2), ("1B --gpus 8 --ram 8", 2)):
        (device,) = plan(line, capsys)["devices"]
        assert device["weights_bytes"] // parameters == element, line
    (device,) = plan("1B --gpus 8 --ram 8 --strategy cpu", capsys)["devices"]
    assert device["weights_bytes"] // parameters == 4


def test_an_adapter_counts_where_it_stays_beside_its_matrices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = write_lora(tmp_path / "lora", layers=28, rank=64, rows=4096, columns=4096)
    for precision, more in (("", 0), (" --quantize int8", 2 * 28 * 2 * 64 * 4096)):
        line = f"8B --gpus 24{precision}"
        (bare,) = plan(line, capsys)["devices"]
        (dressed,) = plan(f"{line} --adapter {lora}", capsys)["devices"]
        assert dressed["weights_bytes"] - bare["weights_bytes"] == more


def test_this_machine_is_meant_when_no_other_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("1B", "1B --here"):
        assert plan(line, capsys)["devices"][0]["free_bytes"] > 0


def test_a_person_reads_the_verdict_the_bytes_the_places_and_the_ways_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("38B --gpus 24,24")
    text = capsys.readouterr().out
    assert "38B (38,388,164,992 parameters) in bfloat16, balanced: does not fit." in text
    assert re.search(r"^cuda:1 +24 GB +38 GB +2\.6 GB +3\.2 GB +0\.9 GB +187%$", text, re.M)
    assert re.search(r"^cuda:0: embed_tokens, .*lm_head, layers 0–24$", text, re.M)
    assert "needs 77 GB + 4.3 GB cache" in text
    assert "\nWhat would fit:\n- nf4 (--quantize nf4)\n- 14B\n" in text


def test_what_fits_gets_no_advice(capsys: pytest.CaptureFixture[str]) -> None:
    run("9B --gpus 24")
    text = capsys.readouterr().out
    assert "9B (9,141,898,240 parameters, shape not confirmed) in bfloat16, balanced: fits." in text
    assert "needs" not in text


def test_the_fit_table_tells_each_size_in_three_precisions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run("--markdown")
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:9]]
    assert cells[0] == ["size", "parameters", "bfloat16", "int8", "nf4"]
    assert all(set(cell) == {"-"} for cell in cells[1])
    assert [row[0] for row in cells[2:]] == ["1B", "2B", "8B", "9B", "14B", "38B", "78B"]
    assert lines[-1].endswith("the smallest usual machine. Shape not confirmed: 9B.")
    for row in cells[2:]:
        needs = [float(re.match(r"([\d.]+) GB: \d × \d+ GB", cell)[1]) for cell in row[2:]]  # type: ignore[index]
        assert needs == sorted(needs, reverse=True)
        assert needs[0] > WEIGHTS_GB.get(row[0], 0)


def test_the_fit_table_for_a_machine_says_yes_or_no(capsys: pytest.CaptureFixture[str]) -> None:
    run("--gpus 24")
    text = capsys.readouterr().out
    assert re.search(r"^8B .* 20 GB: fits .* 14 GB: fits .* 11 GB: fits$", text, re.M)
    assert re.search(r"^38B .* 86 GB: no +56 GB: no +41 GB: no$", text, re.M)
    assert "Here 1 × 24 GB." in text and "float32" not in text
    run("--ram 24")
    assert "On the processor --dtype auto takes float32 where" in capsys.readouterr().out


def test_the_fit_table_as_an_object_has_the_exact_parameters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = plan("", capsys)["sizes"]
    assert [(one["model"], one["parameters"]) for one in sizes] == [
        (shape.name, shape.parameters) for shape in SIZES
    ]
    assert [one["model"] for one in sizes if one["unconfirmed"]] == ["9B"]
    assert all(list(one["precisions"]) == ["bfloat16", "int8", "nf4"] for one in sizes)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("8B --gpus x", "'x' is no number of GB. Write 24 or 23.5, several GPUs as 24,24"),
        ("8B --gpus 24,,24", "'' is no number of GB. Write"),
        ("8B --gpus nan", "The memory in GB must be a number, not nan"),
        ("8B --gpus 0", "The memory in GB is 0. Choose a value from"),
        ("8B --gpus 24 --context 0", "The context of 8B is 0. Choose"),
        ("8B --gpus 24 --context 40000", "The context of 8B is 40,000. Choose"),
        ("8B --gpus 24 --tiles 0", "The number of tiles in a batch is 0. Choose"),
        ("8B --ram 16 --strategy card", "The card's split is made for GPUs. Choose another"),
        ("--quantize int8", "The table shows every precision. Leave --quantize out"),
        ("--adapter lora", "An adapter belongs to one model. Name it"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(line: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        run(line)


def test_an_adapter_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="no folder .*nowhere. Give the folder of an adapter"):
        run(f"8B --gpus 24 --adapter {tmp_path / 'nowhere'}")


@pytest.mark.parametrize("model", ["5B", "/nowhere", str(ROOT / "tests")])
def test_a_model_that_is_none_is_refused_by_name(model: str) -> None:
    with pytest.raises(BadCheckpoint, match=Path(model).name):
        run(f"{model} --gpus 24")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["8B", "--gpus", "8"], 0),
        (["8B", "--gpus", "24", "--here"], 2),
        (["8B", "--dtype", "int4"], 2),
        (["5B"], 2),
        (["8B", "--gpus", "-1"], 2),
    ],
)
def test_the_exit_status_is_2_and_one_line_for_bad_input_only(
    words: list[str], status: int
) -> None:
    done = subprocess.run(
        [sys.executable, "app.py", "plan", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == status
    assert done.stderr.count("\n") == (1 if status else 0)


def test_planning_imports_neither_torch_nor_gradio() -> None:
    code = (
        "import sys, app\n"
        "app.main(['plan']), app.main(['plan', 'bundled'])\n"
        "heavy = {'torch', 'transformers', 'gradio', 'numpy', 'huggingface_hub'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
