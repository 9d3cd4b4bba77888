"""Composing: a conversation and its files become the token ids that the model reads.

Looks at files through `backend.media` (headers only), never at pixels; everything that could
make the model fail (counts of placeholders, ids beyond the embedding) is checked here, before it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from backend.checkpoint.facts import Facts, read_facts
from backend.checkpoint.tokenizer import read_tokens
from backend.checkpoint.tokens import Tokens, mend
from backend.conversation import Answer, Attachment, Conversation, Kind
from backend.errors import BadCheckpoint, BadQuestion, BadSetting
from backend.media.reader import MediaReader
from backend.media.stopping import StopSign, never
from backend.prompt.budget import Budget
from backend.prompt.encoding import Encoder
from backend.prompt.remedy import Remedy
from backend.prompt.template import CONTEXT, Blocks, Piece, Special, Text, order_of, write_prompt
from backend.settings import FAST, Settings


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads. `text` shows it to people, a run of N context tokens as `{N}`.

    The pixels of `attachments`, in this order, are what the context tokens stand for. An engine
    that makes tokens itself gets the `pieces`, without what its tokenizer begins with.
    """

    ids: tuple[int, ...]
    text: str
    attachments: tuple[Attachment, ...]
    budget: Budget
    pieces: tuple[Piece, ...] = ()

    @property
    def visual_tokens(self) -> int:
        """Context tokens among the ids."""
        return self.budget.visual


Known = Mapping[Attachment, tuple[int, ...]]  # blocks of the files that were looked at


class Composer:
    """Writes prompts for one checkpoint. Immutable, and safe to use from several threads.

    `estimated` tells that `tokens` only guesses, as budgets then say.
    """

    def __init__(
        self, facts: Facts, tokens: Tokens, media: MediaReader, estimated: bool = False
    ) -> None:
        self.facts = facts
        self.tokens = tokens
        self.media = media
        self.estimated = estimated
        self._encoder = Encoder(tokens)
        self._context_id = tokens.special(CONTEXT)

    def compose(self, conversation: Conversation, stopped: StopSign = never) -> Prompt:
        """The prompt of a conversation whose last turn waits. It may be too long: see `budget`.

        Raises `BadQuestion` when there is nothing to answer, `BadFile` for a file that cannot be
        used, `BadCheckpoint` when the tokenizer and the model do not go together.
        """
        _require_question(conversation)
        blocks = self._look(conversation, stopped)
        pieces = tuple(self._write(conversation, blocks.__getitem__))
        ids = tuple(chain.from_iterable(self._encode(pieces)))
        budget = self._weigh(conversation, blocks.__getitem__, len(ids))
        self._check(ids, budget.visual)
        return Prompt(
            ids=ids,
            text="".join((*self.tokens.opening, *map(self._show, pieces))),
            attachments=tuple(file for turn in conversation.turns for file in order_of(turn)),
            budget=self._advise(conversation, budget, blocks, stopped),
            pieces=pieces,
        )

    def measure(self, conversation: Conversation, stopped: StopSign = never) -> Budget:
        """What a conversation takes, also while its question is still being written.

        Raises `BadFile` for a file that cannot be used.
        """
        blocks = self._look(conversation, stopped)
        budget = self._measure(conversation, blocks.__getitem__)
        return self._advise(conversation, budget, blocks, stopped)

    def _look(self, conversation: Conversation, stopped: StopSign) -> Known:
        files = dict.fromkeys(conversation.attachments)
        return {file: self.media.look(file, stopped).blocks for file in files}

    def _measure(self, conversation: Conversation, blocks: Blocks) -> Budget:
        runs = self._encode(self._write(conversation, blocks))
        return self._weigh(conversation, blocks, sum(map(len, runs)))

    def _write(self, conversation: Conversation, blocks: Blocks) -> Iterator[Piece]:
        system = self.facts.system_prompt
        for piece in write_prompt(conversation, system, blocks, self._recall):
            yield Text(mend(piece.text)) if isinstance(piece, Text) else piece

    def _recall(self, answer: Answer) -> str:
        """An earlier answer as `model.chat` puts it into the history: without special tokens.

        Its ids tell signs from the same words written out, but they may be of another model's
        tokenizer, if the model was changed since. Then they do not spell its text.
        """
        text = self.tokens.without_special(answer.text)
        spelt = self.tokens.decode(answer.token_ids)
        return (spelt if self.tokens.without_special(spelt) == text else text).strip()

    def _encode(self, pieces: Iterable[Piece]) -> Iterator[list[int]]:
        """Runs of ids. Neighbouring texts are joined first, or words would break between them."""
        yield [self.tokens.special(token) for token in self.tokens.opening]
        words: list[str] = []
        for piece in pieces:
            if isinstance(piece, Text):
                words.append(piece.text)
                continue
            yield self._encoder.encode("".join(words))
            words.clear()
            if isinstance(piece, Special):
                yield [self.tokens.special(piece.token)]
            else:
                yield [self._context_id] * (piece.count * self.facts.tokens_per_tile)
        yield self._encoder.encode("".join(words))

    def _show(self, piece: Piece) -> str:
        if isinstance(piece, Text):
            return piece.text
        if isinstance(piece, Special):
            return piece.token
        return f"{{{piece.count * self.facts.tokens_per_tile}}}"

    def _weigh(self, conversation: Conversation, blocks: Blocks, total: int) -> Budget:
        kinds = [file.kind for file in conversation.attachments]
        tiles = sum(sum(blocks(file)) for file in conversation.attachments)
        visual = tiles * self.facts.tokens_per_tile
        return Budget(
            text=total - visual,
            visual=visual,
            limit=self.facts.context_length,
            images=kinds.count(Kind.IMAGE),
            videos=kinds.count(Kind.VIDEO),
            tiles=tiles,
            estimated=self.estimated,
        )

    def _advise(
        self, conversation: Conversation, budget: Budget, known: Known, stopped: StopSign
    ) -> Budget:
        """The budget, with a remedy if it does not fit."""
        if budget.fits:
            return budget

        def foresee(file: Attachment) -> tuple[int, ...]:
            if file in known:
                return known[file]
            if file.kind is Kind.VIDEO and file.frames:
                return (1,) * file.frames  # a video is not decoded anew for every guess
            return self.media.look(file, stopped).blocks

        def most(file: Attachment) -> int:
            if file.kind is Kind.VIDEO:
                return len(known[file])
            return file.max_tiles or self.facts.max_tiles

        def fits(changed: Conversation) -> bool:
            return self._measure(changed, foresee).fits

        return replace(budget, remedy=Remedy(conversation, fits, most).find())

    def _check(self, ids: tuple[int, ...], visual: int) -> None:
        """Raise `BadCheckpoint` for ids that would make the model fail or read the wrong thing."""
        places = ids.count(self._context_id)
        if places != visual:
            raise BadCheckpoint(
                f"The prompt has {places} places for {visual} visual tokens.",
                "The checkpoint's tokenizer is damaged: download it again.",
            )
        rows = self.facts.embedding_rows
        beyond = max(ids)
        if beyond >= rows:
            raise BadCheckpoint(
                f"The tokenizer gives id {beyond}, but the model knows {rows} tokens.",
                "The tokenizer is of another checkpoint: download the checkpoint again.",
            )


def open_composer(folder: Path, settings: Settings, name: str | None = None) -> Composer:
    """The composer of the checkpoint in `folder`, from its small files alone.

    Raises `BadCheckpoint` when these are missing or of another family of models, and `BadSetting`
    for a longer context than the checkpoint has.
    """
    facts = _limit(read_facts(folder, name), settings.context)
    media = MediaReader(
        tile=facts.tile,
        max_tiles=facts.max_tiles,
        thumbnail=facts.thumbnail,
        frames=settings.frames,
        decoder=settings.decoder,
        fast=settings.tiling == FAST,
    )
    return Composer(facts, read_tokens(folder), media)


def _limit(facts: Facts, context: int | None) -> Facts:
    """The facts with the context that a person wants of the checkpoint's."""
    if context is None:
        return facts
    if context > facts.context_length:
        raise BadSetting(
            f"{facts.name} has a context of {facts.context_length:,} tokens, not {context:,}.",
            f"Choose --context {facts.context_length} or less.",
        )
    return replace(facts, context_length=context)


def _require_question(conversation: Conversation) -> None:
    waiting = conversation.turns[-1] if conversation.waits else None
    if waiting is None or not (waiting.question.strip() or waiting.attachments):
        raise BadQuestion("There is no question.", "Write one, or add a picture or a video.")
