"""Both ways of a conversation over pictures: the engine's, and the model card's on its network."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import InternVLForConditionalGeneration

from backend.conversation import Answer, Attachment, Conversation, Request, Sampling, Turn
from backend.local.engine import LocalEngine
from backend.local.load import THREADS, load_checkpoint, spare_a_core
from backend.local.model import LocalModel
from backend.media.recognise import attach
from backend.settings import Settings
from benchmarks.card import CardChat, load_image
from benchmarks.material import make_photograph
from benchmarks.sizing import wait_until_ready
from benchmarks.weights import MAX_TILES

QUESTIONS = (
    "What is on the two pictures, and how do they differ?",
    "Which colours does the first one have?",
    "And the second one?",
    "Which of them would you hang on a wall, and why?",
)
ANSWER = 12  # tokens
PICTURES = 2
WIDTH, HEIGHT = 1600, 1200  # px: four to three, so twelve tiles and the thumbnail
TYPING_S = 2.0  # between the upload and the question


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds to the first token by turn; `typed` is the first turn of one who typed meanwhile.

    `kept` is the share of a turn's prompt that needed no reading, and `on_all_cores` what the
    rival takes where it shares with nobody: our page and preparation have a core for themselves.
    """

    ours: tuple[float, ...]
    rival: tuple[float, ...]
    typed: float
    kept: tuple[float, ...]
    on_all_cores: tuple[float, ...] = ()


class ChatLab:
    """The engine, and the card's way on its network."""

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        self._folder = folder
        self._network: InternVLForConditionalGeneration | None = None
        self.engine = LocalEngine(Settings(model=str(checkpoint)), load=self._load)
        self.engine.start()
        wait_until_ready(self.engine)
        assert self._network is not None, "the engine is ready, so it has a network"
        self._card = CardChat(self._network, checkpoint)

    def run_round(self, number: int, thorough: bool = False) -> Round:
        """Everything once, on pictures that nobody has seen; both ways must answer the same."""
        asked = self._chat(self._draw(number * 10), f"chat {number}")
        spare_a_core()  # torch counts its threads for each of ours
        rival = self._chat_as_the_card(asked)
        torch.set_num_threads(THREADS)
        on_all_cores = self._chat_as_the_card(asked) if thorough else []
        costs = [turn.answer.statistics for turn in asked.turns if turn.answer]
        told = [cost for cost in costs if cost]
        return Round(
            tuple(cost.ttft_s for cost in told),
            tuple(rival),
            self._type(number * 10 + 5),
            tuple(cost.cached_tokens / cost.prompt_tokens for cost in told),
            tuple(on_all_cores),
        )

    def _load(self, *choices: object) -> LocalModel:
        model = load_checkpoint(*choices)  # type: ignore[arg-type]
        self._network = model._network  # the only look behind the product's face
        return model

    def _draw(self, seed: int) -> tuple[Attachment, ...]:
        paths = [self._folder / f"{seed + picture}.jpg" for picture in range(PICTURES)]
        for at, path in enumerate(paths):
            make_photograph(path, WIDTH, HEIGHT, seed + at)
        return tuple(attach(str(path), max_tiles=MAX_TILES) for path in paths)

    def _chat(self, files: tuple[Attachment, ...], session: str) -> Conversation:
        chat = Conversation()
        for question in QUESTIONS:
            chat = chat.asked(Turn(question, files))
            chat, files = chat.answered(self._ask(chat, session)[1]), ()
        return chat

    def _type(self, seed: int) -> float:
        """The first turn of somebody who drops files and then types for a while."""
        files, session = self._draw(seed), f"typist {seed}"
        self.engine.expect(session, files)
        time.sleep(TYPING_S)
        return self._ask(Conversation().asked(Turn(QUESTIONS[0], files)), session)[0]

    def _ask(self, chat: Conversation, session: str) -> tuple[float, Answer]:
        """Seconds to the first token, and the answer."""
        stream = self.engine.stream(Request(chat, Sampling(max_new_tokens=ANSWER), session))
        text = "".join(stream)
        assert stream.statistics is not None, "the answer is there"
        return stream.statistics.ttft_s, Answer(text, stream.token_ids, stream.statistics)

    def _chat_as_the_card(self, chat: Conversation) -> list[float]:
        """The same conversation, turn by turn; raises if an answer is another one."""
        composer = self.engine.composer
        assert composer is not None, "the engine is ready, so it has a composer"
        waited: list[float] = []
        pixels = torch.empty(0)
        for number, turn in enumerate(chat.turns, start=1):
            asked = Conversation(chat.turns[:number]).unanswered()
            ids = torch.tensor([composer.compose(asked).ids])
            begun = time.perf_counter()
            if turn.attachments:
                pixels = torch.cat([load_image(Path(file.path)) for file in turn.attachments])
            told = self._card.answer(ids, pixels, ANSWER)
            waited.append(told.first_at - begun)
            assert turn.answer is not None
            if told.ids[: len(turn.answer.token_ids)] != turn.answer.token_ids:
                raise RuntimeError(f"the two ways answer turn {number} differently")
        return waited
