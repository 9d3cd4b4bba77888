"""A crowd before the engine: everybody at once or one by one by chance, each with a picture."""

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import torch
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from backend.conversation import Attachment
from backend.local.engine import LocalEngine
from backend.local.load import load_checkpoint, spare_a_core
from backend.local.model import LocalModel
from backend.local.preparation import prepare
from backend.media.recognise import attach
from backend.prompt.compose import Composer
from backend.settings import OFF, ON, Settings
from backend.stream import AnswerStream
from benchmarks.material import ask, draw_scene
from benchmarks.sizing import wait_until_ready

QUESTION = "Describe the shapes."
TILES = 3  # of a picture three times as wide as high; with the thumbnail four
TILE = 112  # px
WIDTH, HEIGHT = 3 * TILE, TILE  # px
VISION = 64  # width of the vision tower: a twentieth of an answer's time, as of an 8B on a GPU
ANSWER = 64  # tokens, whatever the model would say
LONG_ANSWER = 256


# What a person takes for quick, as `vllm bench serve --goodput ttft:500 tpot:50` has it.
GOOD_FIRST_S, GOOD_GAP_S = 0.5, 0.05


@dataclass(frozen=True, slots=True)
class Served:
    """How a crowd fared: tokens and answers a second in all, and the mean wait for the first one.

    `gaps_s` lie between two tokens of somebody, and good answers are those within the bounds above.
    """

    tokens_per_s: float
    requests_per_s: float
    good_per_s: float
    first_s: float
    gaps_s: tuple[float, ...]
    answers: tuple[tuple[int, ...], ...]


def is_steady(tokens_per_s: float) -> bool:
    """Whether tokens came quickly enough; one alone has no speed."""
    return not tokens_per_s or 1 / tokens_per_s <= GOOD_GAP_S


def note_tokens(stream: AnswerStream, moments: list[float]) -> None:
    """Have `moments` hold when each token is written: a reader gets several at a time."""
    write = stream.write

    def note(text: str, ids: Sequence[int] = (), tokens: int = 0) -> None:
        moments.extend([time.perf_counter()] * len(ids))
        write(text, ids, tokens)

    stream.write = note  # type: ignore[method-assign]


class PeopleLab:
    """Two engines with the same weights: one answers several at once, the other does not."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self._folder = folder
        self._drawn = 0
        self.models: dict[str, LocalModel] = {}
        self.engines: dict[str, LocalEngine] = {}
        with ExitStack() as opened:
            for batching in (ON, OFF):
                settings = Settings(model=str(checkpoint), batching=batching, max_queue=64)
                engine = LocalEngine(settings, load=self._load)
                opened.callback(engine.close)
                engine.start()
                wait_until_ready(engine)
                self.engines[batching] = engine
            self.close = opened.pop_all().close

    def draw(self, count: int) -> list[Path]:
        """So many pictures that nobody has seen."""
        paths = [self._folder / f"{self._drawn + number}.png" for number in range(count)]
        for number, path in enumerate(paths, self._drawn):
            draw_scene(WIDTH, HEIGHT, number).save(path)
        self._drawn += count
        return paths

    def serve(
        self, batching: str, pictures: Sequence[Path], gap_s: float = 0, answer: int = ANSWER
    ) -> Served:
        """One person for each picture: all at once, or by chance `gap_s` apart on average."""
        engine = self.engines[batching]
        chance = random.Random(len(pictures))  # the same moments for both engines
        moments: list[list[float]] = [[] for _ in pictures]
        begun, streams = time.perf_counter(), []
        for number, path in enumerate(pictures):
            if gap_s and number:
                time.sleep(chance.expovariate(1 / gap_s))
            stream = engine.stream(ask(QUESTION, self._attach(path), answer, str(number)))
            note_tokens(stream, moments[number])
            streams.append(stream)
        for stream in streams:
            "".join(stream)
        took = time.perf_counter() - begun
        told = [stream.statistics for stream in streams if stream.statistics]
        good = sum(one.ttft_s <= GOOD_FIRST_S and is_steady(one.tokens_per_s) for one in told)
        return Served(
            sum(one.new_tokens for one in told) / took,
            len(told) / took,
            good / took,
            fmean(one.ttft_s for one in told),
            tuple(after - before for row in moments for before, after in pairwise(row)),
            tuple(stream.token_ids for stream in streams),
        )

    def write_alone(self, batching: str, picture: Path) -> float:
        """Tokens a second of one person after the first token."""
        stream = self.engines[batching].stream(ask(QUESTION, self._attach(picture), ANSWER))
        "".join(stream)
        assert stream.statistics is not None, "it was answered"
        return stream.statistics.tokens_per_s

    def write_bare(self, picture: Path) -> float:
        """The same by bare `generate()`: what an answer takes beyond its first token."""
        engine, model = self.engines[OFF], self.models[OFF]
        assert engine.composer is not None, "the engine is ready, so it has a composer"
        prepared = prepare(
            engine.composer, AnswerStream(ask(QUESTION, self._attach(picture), ANSWER))
        )
        spare_a_core()  # torch counts its threads for each of ours
        with torch.inference_mode():
            seen = BaseModelOutputWithPooling(pooler_output=model.features.of(prepared.cuts))
            first_s = self._generate(model, prepared.prompt.ids, seen, 1)
            whole_s = self._generate(model, prepared.prompt.ids, seen, ANSWER)
        return (ANSWER - 1) / (whole_s - first_s)

    def _generate(
        self, model: LocalModel, ids: Sequence[int], seen: BaseModelOutputWithPooling, tokens: int
    ) -> float:
        """Seconds. Meanwhile the engine's own thread waits, so that nobody else computes."""
        prompt = torch.tensor([ids])
        begun = time.perf_counter()
        model._network.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            mm_encoder_outputs={"image": seen},
            generation_config=GenerationConfig(
                max_new_tokens=tokens, do_sample=False, pad_token_id=0
            ),
        )
        return time.perf_counter() - begun

    def _load(self, settings: Settings, composer: Composer, report: object) -> LocalModel:
        """As the product loads it, but no token ends an answer."""
        endless = Composer(
            replace(composer.facts, eos_token_ids=()), composer.tokens, composer.media
        )
        model = load_checkpoint(settings, endless, report)  # type: ignore[arg-type]
        self.models[settings.batching] = model
        return model

    def _attach(self, path: Path) -> tuple[Attachment, ...]:
        return (attach(str(path), max_tiles=TILES),)
