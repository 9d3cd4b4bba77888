"""Several engines as one: each conversation stays with its own while that is well.

Rendezvous hashing over the healthy ones: when one goes, only its conversations move, and when one
comes, only those move that it will have. So prefix caches hit without anybody keeping a list.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from backend.checkpoint.facts import Layout
from backend.conversation import Conversation
from backend.errors import BadSetting, BrokenOff, EngineFailed
from backend.remote.address import Address, read_address
from backend.remote.faults import Broken, Busy, Lost, Silent, Unreachable
from backend.remote.node import Node, Patience
from backend.remote.wire import Order
from backend.remote.writing import Writing

MOVES = (Unreachable, Broken)  # what another engine may do better, while nothing is written
MOST_WAITS = 3  # times that a busy engine's Retry-After is waited for
ELSEWHERE = "What came so far stays; ask again, and another engine goes on."
ALONE = "What came so far stays; ask again when the engine is back."
logger = logging.getLogger(__name__)


@dataclass
class Listing:
    """The file that lists engines, an address a line, and read again when it has changed."""

    path: Path
    _seen: tuple[int, int, int] = field(default=(0, 0, 0), init=False)

    def read(self) -> tuple[Address, ...]:
        """The addresses. Raises `BadSetting` for a file that cannot be read or lists none."""
        try:
            self._seen = self._look()
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSetting(
                f"The list of engines {self.path.name} cannot be read ({type(error).__name__}).",
                "Correct --engines-file.",
            ) from None
        words = (line.split("#")[0].strip() for line in lines)
        addresses = tuple(read_address(word) for word in words if word)
        if not addresses:
            raise BadSetting(
                f"The list of engines {self.path.name} is empty.", "Write an address on each line."
            )
        return addresses

    def changed(self) -> bool:
        """Whether the file is another one than was read."""
        try:
            return self._look() != self._seen
        except OSError:
            return False  # a file that is being replaced; the engines stay

    def _look(self) -> tuple[int, int, int]:
        now = self.path.stat()
        return now.st_ino, now.st_size, now.st_mtime_ns


class Fleet:
    """The engines, of which every conversation is asked to have one. Runs in one event loop."""

    def __init__(
        self,
        addresses: Iterable[Address],
        listing: Listing | None,
        make: Callable[[Address], Node],
        patience: Patience,
    ) -> None:
        self.layout = Layout.HF  # of the checkpoint that all serve, once it is known
        self._named = tuple(addresses)
        self._listing = listing
        self._make = make
        self._patience = patience
        self.nodes: dict[str, Node] = {}
        self._renew(listing.read() if listing else ())

    @property
    def healthy(self) -> list[Node]:
        """Engines that can be asked."""
        return [node for node in self.nodes.values() if node.healthy]

    async def look(self, wanted: str) -> None:
        """Look at every engine once, and at the list of them if it has changed."""
        if self._listing is not None and self._listing.changed():
            try:
                self._renew(self._listing.read())
            except BadSetting as error:
                logger.warning("%s The engines stay as they were.", error)
        await asyncio.gather(*(node.look(wanted) for node in self.nodes.values()))

    async def answer(self, key: str, order: Order, writing: Writing) -> None:
        """Have the conversation's engine answer, or the next if that fails or has no time for it.

        Raises the last engine's error, as `BrokenOff` when some of the answer stands already.
        """
        tried: list[Node] = []
        waits = 0
        while True:
            node = self.choose(key, tried)
            try:
                await node.answer(order, writing, self.layout)
                return
            except Busy as error:
                waits += 1
                if not await self._wait(error, waits, writing):
                    tried.append(node)
                    if not self._others(tried):
                        raise
            except (*MOVES, Silent) as error:
                if isinstance(error, Unreachable | Lost):
                    node.fail(error)
                tried.append(node)
                others = self._others(tried)
                if writing.began:
                    writing.give_up()
                    raise BrokenOff(error.cause, ELSEWHERE if others else ALONE) from None
                if isinstance(error, Silent) or not others:
                    raise
                logger.info("%s Another engine is asked.", error.cause)

    def choose(self, key: str, tried: Collection[Node] = ()) -> Node:
        """The healthy engine of a conversation. Raises `EngineFailed` when there is none."""
        left = self._others(tried)
        if not left:
            raise self.fault()
        return max(left, key=lambda node: _weight(key, node.address))

    def fault(self) -> EngineFailed:
        """Why no engine can be asked."""
        found = [node.fault for node in self.nodes.values() if node.fault is not None]
        if not found:
            return EngineFailed("No engine can be asked.", "Ask again in a moment.")
        if len(self.nodes) == 1:
            return copy(found[0])
        return EngineFailed(f"None of {len(self.nodes)} engines answers.", str(found[0]))

    def _others(self, tried: Collection[Node]) -> list[Node]:
        """Engines that can be asked and were not."""
        return [node for node in self.healthy if node not in tried]

    async def _wait(self, error: Busy, waits: int, writing: Writing) -> bool:
        """Wait as long as a busy engine asks for, unless it does not say or that is too long."""
        longest = self._patience.longest_wait_s
        if error.wait_s is None or error.wait_s > longest or waits > MOST_WAITS:
            return False
        writing.wait()
        await asyncio.sleep(error.wait_s)
        return True

    def _renew(self, listed: Sequence[Address]) -> None:
        """Engines named or listed, those known kept as they are."""
        addresses = {address.url: address for address in (*self._named, *listed)}
        self.nodes = {
            url: self.nodes.get(url) or self._make(address) for url, address in addresses.items()
        }


def key_of(session: str, conversation: Conversation) -> str:
    """What stays the same of a conversation from turn to turn."""
    first = conversation.turns[0]
    files = tuple(file.path for file in first.attachments)
    return repr((session, conversation.system, first.question, files))


def _weight(key: str, address: Address) -> bytes:
    return hashlib.sha256(f"{key}\n{address.url}".encode("utf-8", "replace")).digest()
