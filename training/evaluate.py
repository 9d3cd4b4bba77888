"""Accuracy per kind: `python -m training.evaluate [--samples N] [--set SET] [--quantize int8]`.

Greedy answers of transformers' own class, right when equal word for word; a box is right when its
name is and it overlaps the true one by half (intersection over union). Weights in float32, those of
decoder layers in 8 or 4 bits with `--quantize`.
"""

import argparse
import multiprocessing
import re
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import InternVLForConditionalGeneration

from backend.local.pixels import normalise
from backend.local.placement import Placement
from backend.local.quantization import configure
from backend.planner.costs import Quantization
from training.network import DEVIATION, MEAN
from training.sequences import encode_prompt
from training.tokenizer import BUNDLED, Codec
from training.trials import DECLINED, KINDS, SETS, Trial, make_trials

BATCH = 32
LONGEST_ANSWER = 100
BOX = re.compile(r"^<ref>(.+)</ref><box>\[\[(\d+), (\d+), (\d+), (\d+)\]\]</box>$")
OVERLAP = 0.5


@dataclass(frozen=True)
class Result:
    """One trial and what the model said."""

    trial: Trial
    answer: str

    @property
    def is_right(self) -> bool:
        return (
            self.answer == self.trial.wanted or overlap(self.answer, self.trial.wanted) >= OVERLAP
        )


def overlap(answer: str, wanted: str) -> float:
    """Intersection over union of two boxes of the same name, zero for anything else."""
    said, true = BOX.match(answer), BOX.match(wanted)
    if said is None or true is None or said[1] != true[1]:
        return 0.0
    ours, theirs = ([int(part[place]) for place in range(2, 6)] for part in (said, true))
    width = min(ours[2], theirs[2]) - max(ours[0], theirs[0])
    height = min(ours[3], theirs[3]) - max(ours[1], theirs[1])
    shared = max(0, width) * max(0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (ours, theirs))
    return shared / max(1, areas - shared)


class Examinee:
    """A checkpoint that answers trials greedily."""

    def __init__(self, folder: Path = BUNDLED, quantize: Quantization | None = None) -> None:
        self.codec = Codec(folder)
        self.model = InternVLForConditionalGeneration.from_pretrained(
            folder,
            dtype=torch.float32,
            quantization_config=configure(Placement(torch.float32, quantize=quantize)),
        )
        self.model.eval()

    def answer(self, trials: Iterable[Trial]) -> list[Result]:
        """All trials, those of like length together."""
        ordered = sorted(trials, key=lambda trial: len(encode_prompt(self.codec, trial.dialogue)))
        results = []
        for start in range(0, len(ordered), BATCH):
            batch = ordered[start : start + BATCH]
            answers = self._generate(batch)
            results += [Result(*pair) for pair in zip(batch, answers, strict=True)]
        return results

    @torch.inference_mode()
    def _generate(self, trials: list[Trial]) -> list[str]:
        prompts = [encode_prompt(self.codec, trial.dialogue) for trial in trials]
        length = max(map(len, prompts))
        padding = self.codec.special["<|endoftext|>"]
        ids = torch.tensor([[padding] * (length - len(ids)) + ids for ids in prompts])
        seen = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in prompts])
        tiles = [tile for trial in trials for tile in trial.tiles]
        pictures = {"pixel_values": see(tiles)} if tiles else {}
        written = self.model.generate(
            input_ids=ids,
            attention_mask=seen,
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
            **pictures,
        )
        return [self._read(row) for row in written[:, length:].tolist()]

    def _read(self, ids: list[int]) -> str:
        ends = {self.codec.special["<|im_end|>"], self.codec.special["<|endoftext|>"]}
        end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        return self.codec.decode(ids[:end])


def see(tiles: list[np.ndarray]) -> torch.Tensor:
    """uint8 tiles to float32 [T, 3, H, W], as the app does it."""
    return normalise(torch.from_numpy(np.stack(tiles)), MEAN, DEVIATION)


def share_right(results: list[Result]) -> float:
    """Percent."""
    return 100 * sum(result.is_right for result in results) / len(results)


def measure(
    folder: Path,
    kinds: list[str],
    sets: list[str],
    samples: int,
    seed: int,
    processes: int,
    quantize: Quantization | None = None,
) -> dict[tuple[str, str], list[Result]]:
    """The results of each kind in each set, every set in a process of its own."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawning) as pool:
        asked = ((folder, kinds, which, samples, seed, quantize) for which in sets)
        jobs = [pool.submit(measure_set, *words) for words in asked]
    measured: dict[tuple[str, str], list[Result]] = {}
    for which, job in zip(sets, jobs, strict=True):
        for result in job.result():
            measured.setdefault((result.trial.kind, which), []).append(result)
    return measured


def measure_set(
    folder: Path,
    kinds: list[str],
    which: str,
    samples: int,
    seed: int,
    quantize: Quantization | None = None,
) -> list[Result]:
    """All answers of one set on one thread, without their tiles."""
    torch.set_num_threads(1)
    trials = [trial for kind in kinds for trial in make_trials(kind, which, samples, seed)]
    results = Examinee(folder, quantize).answer(trials)
    return [replace(result, trial=replace(result.trial, tiles=())) for result in results]


HEADINGS = {"seeds": "unseen seeds", "renderer": "second renderer", "wordings": "unseen wordings"}


def write_table(measured: dict[tuple[str, str], list[Result]], samples: int) -> str:
    """Markdown: what is offered, what is declined."""
    sets = [which for which in SETS if any(key[1] == which for key in measured)]
    lines = [
        f"Percent right of {samples} answers each.",
        "",
        "| kind | " + " | ".join(HEADINGS[which] for which in sets) + " |",
        "|---|" + "---:|" * len(sets),
    ]
    groups = {
        "": [kind for kind in KINDS if kind not in DECLINED],
        "declines ": [kind for kind in KINDS if kind in DECLINED],
    }
    for label, kinds in groups.items():
        for kind in kinds:
            if all((kind, which) in measured for which in sets):
                cells = [f"{share_right(measured[kind, which]):.0f}" for which in sets]
                lines.append(f"| {label}{kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED)
    parser.add_argument("--samples", type=int, default=60, help="of each kind and set")
    parser.add_argument("--set", choices=SETS, action="append", help="may be given several times")
    parser.add_argument("--kind", choices=KINDS, action="append", help="may be given several times")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--processes", type=int, default=2, help="each of one thread")
    parser.add_argument("--quantize", choices=Quantization, type=Quantization)
    parser.add_argument("--wrong", action="store_true", help="show every wrong answer")
    parser.add_argument("--card", action="store_true", help="write the table into the card")
    chosen = parser.parse_args()
    kinds, sets = chosen.kind or list(KINDS), chosen.set or list(SETS)
    folder, samples = chosen.checkpoint, chosen.samples
    measured = measure(folder, kinds, sets, samples, chosen.seed, chosen.processes, chosen.quantize)
    table = write_table(measured, samples)
    print(table)
    if chosen.wrong:
        for result in (result for results in measured.values() for result in results):
            if not result.is_right:
                asked = result.trial.dialogue.turns[-1][0]
                print(
                    f"{result.trial.kind}: {asked}\n  + {result.trial.wanted}\n  - {result.answer}"
                )
    if chosen.card:
        write_into_card(chosen.checkpoint / "README.md", table)


def write_into_card(card: Path, table: str) -> None:
    """Replace what stands between the card's two marks."""
    text = card.read_text(encoding="utf-8")
    before, rest = text.split("<!-- accuracy -->\n", 1)
    _, after = rest.split("<!-- end of accuracy -->", 1)
    card.write_text(
        f"{before}<!-- accuracy -->\n{table}\n<!-- end of accuracy -->{after}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
