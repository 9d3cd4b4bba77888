"""Trains the bundled checkpoint: `python -m training.train --minutes 60 --out runs/first`.

First the vision tower alone on what covers each patch, then everything on questions and answers.
Two single-threaded processes, for two cores, share each step's jobs and average their gradients.
The run goes on from OUT/state.pt; `--init FILE` starts a new run from the weights of another.
Seeds fix the data of every step; the clock decides the learning rate, so two runs are alike but
not equal to the bit.
"""

import argparse
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, multiprocessing

from training.export import save_checkpoint
from training.labels import label_patches
from training.lessons import teach
from training.losses import PATCH_CLASSES, answer_loss, patch_loss
from training.network import Network, Shape, patchify
from training.optimizer import Optimizer, Rates
from training.scenes import draw_scene
from training.tokenizer import BUNDLED, Codec

TOWER = ("patch.", "first", "places", "vision.")
SIGHT = (*TOWER, "project_", "patch_head.")
LESSONS = {
    "scene": 12.0, "sign": 1.0, "oddity": 0.8, "pair": 4.0, "text": 1.8, "tiled": 0.4,
    "later": 2.2, "many": 1.5,
}  # fmt: skip
LESSON_JOBS, LESSON_ROWS = 4, 3
FILM_JOBS, FILM_ROWS = 2, 1
FILM_WEIGHT = 0.5
BUDGET, FILM_BUDGET = 208, 352
SIGHT_JOBS, SIGHT_SCENES = 4, 16
RAMP = 20
SAVE_EVERY_S = 240.0
PATIENCE_S = 600


@dataclass(frozen=True)
class Plan:
    """What the command line asked for. Minutes are of training, not of the wall."""

    out: Path
    init: Path | None
    tokenizer: Path
    minutes: float
    sight_minutes: float
    hold: float
    rates: Rates
    seed: int
    frozen: bool

    def rate_share(self, seconds: float, steps: int) -> float:
        """A short ramp, full rates for `hold` of the time, then down in a straight line."""
        left = max(0.015, 1 - seconds / (60 * self.minutes))
        return min(1.0, (steps + 1) / RAMP) * min(1.0, left / (1 - self.hold))


@dataclass(frozen=True)
class Shared:
    """What the two processes see of each other."""

    gradients: Tensor
    clock: Tensor
    taken: Tensor
    lock: object
    barrier: object


def parse_plan(arguments: list[str] | None = None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120, help="of training in all")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--init", type=Path, help="state of another run to start from")
    parser.add_argument("--tokenizer", type=Path, default=BUNDLED, help="folder of tokenizer.json")
    parser.add_argument("--sight-minutes", type=float, help="vision alone; 4, or 0 after --init")
    parser.add_argument("--hold", type=float, default=0.3, help="share of the time at full rates")
    parser.add_argument("--muon", type=float, default=0.006, help="rate of the blocks' matrices")
    parser.add_argument("--adam", type=float, default=1e-3, help="rate of everything else")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frozen", action="store_true", help="leave the vision tower as it is")
    chosen = parser.parse_args(arguments)
    sight = chosen.sight_minutes
    return Plan(
        out=chosen.out,
        init=chosen.init,
        tokenizer=chosen.tokenizer,
        minutes=chosen.minutes,
        sight_minutes=sight if sight is not None else (0.0 if chosen.init else 4.0),
        hold=chosen.hold,
        rates=Rates(chosen.muon, chosen.adam),
        seed=chosen.seed,
        frozen=chosen.frozen,
    )


class Trainer:
    """One of the two processes: its network, its optimizer, its share of every step."""

    def __init__(self, rank: int, plan: Plan, shared: Shared) -> None:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        torch.manual_seed(plan.seed)
        self.rank, self.plan, self.shared = rank, plan, shared
        self.codec = Codec(plan.tokenizer)
        self.network = Network(Shape(vocabulary=self.codec.size), PATCH_CLASSES)
        self.optimizer = Optimizer(self.network, plan.rates)
        self.parameters = dict(self.network.named_parameters())
        self.step, self.joint_steps, self.seconds = 0, 0, 0.0
        self.losses: dict[str, float] = {}
        self._load()

    def _load(self) -> None:
        own = self.plan.out / "state.pt"
        source = own if own.exists() else self.plan.init
        if source is None:
            return
        state = torch.load(source)
        self.network.load_state_dict(state["weights"])
        self.optimizer.load(state["optimizer"])
        if source == own:
            self.step, self.joint_steps = state["step"], state["joint_steps"]
            self.seconds = state["seconds"]

    def save(self) -> None:
        state = {
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state(),
            "step": self.step,
            "joint_steps": self.joint_steps,
            "seconds": self.seconds,
        }
        torch.save(state, self.plan.out / "state.tmp")
        os.replace(self.plan.out / "state.tmp", self.plan.out / "state.pt")

    def run(self) -> None:
        """Steps until the minutes are over; the first process keeps the clock and the state."""
        started, told, saved = time.monotonic() - self.seconds, 0.0, self.seconds
        self.shared.clock[:] = self.seconds
        self.shared.barrier.wait(PATIENCE_S)
        while self.seconds < 60 * self.plan.minutes:
            if self.rank == 0:
                self.shared.clock[self.step % 2] = time.monotonic() - started
            self._take_step()
            if self.rank == 0 and self.seconds - told > 20:
                told = self.seconds
                self._tell()
            if self.rank == 0 and self.seconds - saved > SAVE_EVERY_S:
                saved = self.seconds
                self.save()
        if self.rank == 0:
            self.save()
            save_checkpoint(self.network, self.codec, self.plan.out / "checkpoint")

    def _tell(self) -> None:
        losses = " ".join(f"{name} {value:.3f}" for name, value in sorted(self.losses.items()))
        share = self.plan.rate_share(self.seconds, self.joint_steps)
        print(f"{self.seconds:.0f} s, step {self.step}, rate {share:.3f} | {losses}", flush=True)

    def _take_step(self) -> None:
        slot = self.step % 2
        only_sight = self.seconds < 60 * self.plan.sight_minutes
        sums = self.shared.gradients[slot, self.rank].zero_()
        jobs = SIGHT_JOBS if only_sight else LESSON_JOBS + FILM_JOBS
        while (job := self._take_job(jobs)) is not None:
            rng = random.Random(f"{self.plan.seed}-{self.step}-{job}")
            loss = self._look(rng) if only_sight else self._learn(rng, job)
            loss.backward()
            self._collect(sums)
        self.shared.barrier.wait(PATIENCE_S)
        if self.rank == 0:
            self.shared.taken[(self.step + 2) % 4] = 0
        weight = SIGHT_JOBS if only_sight else LESSON_JOBS + FILM_WEIGHT * FILM_JOBS
        self._descend(self.shared.gradients[slot].sum(0) / weight, only_sight)
        self.step += 1
        self.joint_steps += not only_sight
        self.seconds = float(self.shared.clock[slot])

    def _take_job(self, jobs: int) -> int | None:
        """The next job that neither process has begun; a busy core takes fewer."""
        with self.shared.lock:
            job = int(self.shared.taken[self.step % 4])
            self.shared.taken[self.step % 4] += 1
        return job if job < jobs else None

    def _look(self, rng: random.Random) -> Tensor:
        scenes = [draw_scene(rng) for _ in range(SIGHT_SCENES)]
        seen = self._see([scene.tiles[0] for scene in scenes])
        loss = patch_loss(self.network, seen, [label_patches(scene) for scene in scenes])
        self._note("sight", loss)
        return loss

    def _learn(self, rng: random.Random, job: int) -> Tensor:
        is_film = job >= LESSON_JOBS
        if is_film:
            families = ["film"] * FILM_ROWS
        else:
            families = rng.choices(list(LESSONS), list(LESSONS.values()), k=LESSON_ROWS)
        budget = FILM_BUDGET if is_film else BUDGET
        lessons = [teach(rng, self.codec, family, budget) for family in families]
        tiles = [tile for lesson in lessons for tile in lesson.tiles]
        seen = self._see(tiles) if tiles else None  # a job may hold nothing but small talk
        answers = answer_loss(self.network, self.codec, lessons, seen)
        self._note("films" if is_film else "answers", answers)
        labels = [label for lesson in lessons for label in lesson.labels]
        weight = FILM_WEIGHT if is_film else 1.0
        if seen is None or all(label is None for label in labels):
            return answers * weight
        sight = patch_loss(self.network, seen, labels)
        self._note("sight", sight)
        left = max(0.0, 1 - self.seconds / (60 * self.plan.minutes))
        return (answers + (0.2 * left + 0.03) * sight) * weight

    def _see(self, tiles: list[np.ndarray]) -> Tensor:
        return self.network.see(patchify(torch.from_numpy(np.stack(tiles))), self.plan.frozen)

    def _note(self, name: str, loss: Tensor) -> None:
        value = loss.item()
        self.losses[name] = 0.98 * self.losses.get(name, value) + 0.02 * value

    def _collect(self, sums: Tensor) -> None:
        """Add the gradients to this process's shared sum and clear them."""
        start = 0
        for parameter in self.parameters.values():
            size = parameter.numel()
            if parameter.grad is not None:
                sums[start : start + size].add_(parameter.grad.reshape(-1))
                parameter.grad = None
            start += size

    def _descend(self, gradient: Tensor, only_sight: bool) -> None:
        """One step along the gradient, its length held to one. Both processes do the same."""
        gradients, start = {}, 0
        for name, parameter in self.parameters.items():
            size = parameter.numel()
            learns = name.startswith(SIGHT) or not only_sight
            if learns and not (self.plan.frozen and name.startswith(TOWER)):
                gradients[name] = gradient[start : start + size].view_as(parameter)
            start += size
        length = sum(float(part.square().sum()) for part in gradients.values()) ** 0.5
        if length > 1:
            gradients = {name: part / length for name, part in gradients.items()}
        steps = self.step if only_sight else self.joint_steps
        self.optimizer.step(gradients, self.plan.rate_share(self.seconds, steps))


def work(rank: int, plan: Plan, shared: Shared) -> None:
    Trainer(rank, plan, shared).run()


def main() -> None:
    plan = parse_plan()
    plan.out.mkdir(parents=True, exist_ok=True)
    network = Network(Shape(vocabulary=Codec(plan.tokenizer).size), PATCH_CLASSES)
    size = sum(parameter.numel() for parameter in network.parameters())
    spawning = multiprocessing.get_context("spawn")
    shared = Shared(
        gradients=torch.zeros(2, 2, size).share_memory_(),
        clock=torch.zeros(2, dtype=torch.float64).share_memory_(),
        taken=torch.zeros(4, dtype=torch.int64).share_memory_(),
        lock=spawning.Lock(),
        barrier=spawning.Barrier(2),
    )
    multiprocessing.spawn(work, (plan, shared), nprocs=2)


if __name__ == "__main__":
    main()
