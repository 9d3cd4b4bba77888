"""The composer for an engine: of its checkpoint where that is known here, else an estimate.

An engine's name for its model may be a folder or a repository whose small files are on this
machine; nothing is fetched for it. Else the facts are those of every official InternVL3, and
text is counted as three bytes a token, which is more than it is in most languages.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from backend.checkpoint.facts import (
    CONTEXT_LENGTH,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAX_TILES,
    OFFICIAL_SYSTEM_PROMPT,
    TILE,
    Facts,
    Layout,
)
from backend.checkpoint.find import BUNDLED_FOLDER, find_checkpoint, name_of
from backend.checkpoint.reach import find_facts_here
from backend.checkpoint.tokenizer import read_tokens
from backend.checkpoint.tokens import Added, Tokens
from backend.errors import BadSetting
from backend.media.reader import MediaReader
from backend.prompt.compose import Composer, open_composer
from backend.remote.recognise import Served
from backend.settings import AUTO, BUNDLED, FAST, Settings

BYTES_PER_TOKEN = 3
TOKENS_PER_TILE = 256  # of a tile of 448 px: every InternVL3
ANY_ID = 2**31 - 1


class GuessedTokens(Tokens):
    """Counts of text without its tokenizer: as many ids as there may be tokens, all the same.

    The signs are those of the bundled checkpoint, which every InternVL has.
    """

    def __init__(self) -> None:
        bundled = self._bundled = read_tokens(BUNDLED_FOLDER)
        signs = bundled.added.items()
        super().__init__({sign: Added(number, sign in bundled.signs) for sign, number in signs})

    def encode_plain(self, text: str) -> list[int]:
        """An id for every three bytes of `text`."""
        return [0] * -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)

    def decode(self, ids: Sequence[int]) -> str:
        """Text by the bundled checkpoint's tokenizer."""
        return self._bundled.decode(ids)

    def spell(self, token_id: int) -> bytes:
        """Bytes by the bundled checkpoint's tokenizer."""
        return self._bundled.spell(token_id)


def open_composer_of(served: Served, settings: Settings) -> Composer:
    """The composer for what an engine serves, within the engine's context and the person's.

    Raises `BadCheckpoint` when --model names one that cannot be read, and `BadSetting` for a
    longer context than there is.
    """
    folder = _find(served, settings)
    known = replace(settings, context=None)
    name = wanted_name(settings) or served.name
    composer = open_composer(folder, known, name) if folder else _guess(served, known)
    facts = composer.facts
    most = min(facts.context_length, served.context or facts.context_length)
    if settings.context is not None and settings.context > most:
        raise BadSetting(
            f"The engine has a context of {most:,} tokens, not {settings.context:,}.",
            f"Choose --context {most} or less.",
        )
    facts = replace(facts, context_length=settings.context or most)
    return Composer(facts, composer.tokens, composer.media, composer.estimated)


def wanted_name(settings: Settings) -> str:
    """The model that a person named; "" where the engine's own word is taken."""
    return "" if settings.model in (BUNDLED, AUTO) else name_of(settings.model)


def _find(served: Served, settings: Settings) -> Path | None:
    if wanted_name(settings):
        return find_checkpoint(settings.model, settings.revision, only_facts=True)
    return find_facts_here(served.model) or find_facts_here(served.name)


def _guess(served: Served, settings: Settings) -> Composer:
    facts = Facts(
        name=served.name,
        folder=Path(served.name),
        layout=Layout.HF if served.name.lower().endswith("-hf") else Layout.ORIGINAL,
        tile=TILE,
        tokens_per_tile=TOKENS_PER_TILE,
        max_tiles=MAX_TILES,
        thumbnail=True,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        context_length=CONTEXT_LENGTH,
        embedding_rows=ANY_ID,
        eos_token_ids=(),
        system_prompt=OFFICIAL_SYSTEM_PROMPT,
    )
    media = MediaReader(
        facts.tile,
        facts.max_tiles,
        facts.thumbnail,
        settings.frames,
        settings.decoder,
        fast=settings.tiling == FAST,
    )
    return Composer(facts, GuessedTokens(), media, estimated=True)
