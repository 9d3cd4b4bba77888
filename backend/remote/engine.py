"""The engine elsewhere: the same verb as the local one's, answered by servers over HTTP.

    any thread: stream(request) ──▶ event loop, a task each ──▶ answer streams
                                       │          ▲
                                     preparing threads (files, prompt)
    any thread: expect(session, files) ──▶ a thread that cuts ahead

Closing a stream cancels its task, which closes the connection; the engine there then stops.
Importing this module imports no torch.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from functools import partial
from pathlib import Path
from typing import TypeVar

from backend.checkpoint.facts import Layout
from backend.conversation import Attachment, Request
from backend.engine import Inability, State, Status
from backend.errors import EngineBusy, EngineError, EngineFailed
from backend.media.stopping import Stopped
from backend.prompt.compose import Composer
from backend.remote.address import Address, read_address
from backend.remote.connections import Connections
from backend.remote.dialects import choose_dialect
from backend.remote.estimate import open_composer_of, wanted_name
from backend.remote.fleet import Fleet, Listing, key_of
from backend.remote.key import read_key
from backend.remote.loop import Loop
from backend.remote.node import Node, Patience
from backend.remote.pictures import Pictures
from backend.remote.preparation import is_quick, make_ready, prepare
from backend.remote.signs import Signs
from backend.remote.writing import Writing
from backend.settings import Settings
from backend.stream import AnswerStream

PREPARING_THREADS = 4
MOST_OPEN = 512  # requests at a time; engines have queues of their own
MOST_OF_ONE = MOST_OPEN // 4  # of one session, so that nobody takes all places
MOST_EXPECTING = 64  # sessions of which files are cut ahead; who hinted longest ago is forgotten
BLIND = tuple(
    Inability(kind, "The engine says that it takes no pictures.") for kind in ("image", "video")
)
UNKNOWN = "the engine's model"
CALM = Patience()
Value = TypeVar("Value")
logger = logging.getLogger(__name__)


class RemoteEngine:
    """Satisfies `backend.engine.Engine`. Call `start` once; `composer` is there soon after.

    Raises `BadSetting` for addresses, a list of engines or a key file that cannot be used.
    """

    def __init__(self, settings: Settings, patience: Patience = CALM) -> None:
        self.composer: Composer | None = None
        self._settings = settings
        self._patience = patience
        self._connections = Connections(patience.connect_s)
        self._fleet = _gather(settings, self._connections, patience)
        self._pictures: Pictures | None = None
        self._signs = Signs()
        self._failure: EngineFailed | None = None  # of the checkpoint's files on this machine
        self._looked = asyncio.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._open: set[AnswerStream] = set()
        self._pool = ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="preparing")
        self._expected: dict[str, tuple[Attachment, ...]] = {}
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="preparing-ahead")
        self._loop = Loop("engines")

    def start(self) -> None:
        """Begin to look for the engines, in a thread of its own."""
        self._loop.start()
        self._loop.run(self._watch())

    def stream(self, request: Request) -> AnswerStream:
        """Begin to answer; returns at once, also before an engine was found.

        Raises `EngineBusy` when too much is asked at once, and `EngineFailed` when closed; that no
        engine can be asked comes through the stream.
        """
        stream = AnswerStream(request)
        with self._lock:
            if self._closed:
                raise EngineFailed("The engine is closed.", "Start the app again.")
            self._require_place(request.session)
            self._open.add(stream)
            task = self._loop.run(self._serve(stream))
        stream.call_on_close(partial(_cancel, task))
        return stream

    def expect(self, session: str, files: tuple[Attachment, ...]) -> None:
        """Make the files ready to be sent, beside everything else, while they are expected."""
        with self._lock:
            known, pictures = self._expected.pop(session, ()), self._pictures
            if pictures is None or self._closed:
                return
            if files:
                self._expected[session] = files
            if len(self._expected) > MOST_EXPECTING:
                del self._expected[next(iter(self._expected))]
            for file in files:
                if file not in known:
                    unwanted = partial(self._unwanted, session, file)
                    self._ahead.submit(make_ready, pictures, file, unwanted)

    def status(self) -> Status:
        """What the engines are doing now."""
        fleet, composer = self._fleet, self.composer
        healthy = fleet.healthy
        name = composer.facts.name if composer else wanted_name(self._settings) or UNKNOWN
        if not self._looked.is_set():
            return Status(State.LOADING, name)
        if self._failure is not None or not healthy or composer is None:
            fault = self._failure or fleet.fault()
            return Status(State.FAILED, name, reason=str(fault))
        return Status(
            State.READY,
            name,
            share=1.0,
            device=_describe(healthy, len(fleet.nodes)),
            unable=_unable(healthy, fleet.layout),
        )

    def close(self) -> None:
        """End all requests and wait for the threads."""
        with self._lock:
            already, self._closed = self._closed, True
            streams = tuple(self._open)
        for stream in streams:
            stream.close()
        if not already:
            self._loop.close(self._connections.close)
            self._pool.shutdown(cancel_futures=True)
            self._ahead.shutdown(cancel_futures=True)

    def _require_place(self, session: str) -> None:
        """Raise `EngineBusy` when everybody, or this session alone, asks too much at once."""
        if len(self._open) >= MOST_OPEN:
            raise EngineBusy(f"{MOST_OPEN} questions are asked already.", "Ask again soon.")
        if sum(one.request.session == session for one in self._open) >= MOST_OF_ONE:
            raise EngineBusy(f"{MOST_OF_ONE} questions of yours are open.", "Ask again soon.")

    def _unwanted(self, session: str, file: Attachment) -> bool:
        """Whether nobody waits for a file that was expected."""
        return self._closed or file not in self._expected.get(session, ())

    async def _watch(self) -> None:
        """Look at the engines now and then, for as long as the app runs."""
        while True:
            try:
                await self._fleet.look(wanted_name(self._settings))
                await self._get_to_know()
            except Exception:  # a watch that ended would leave the engines unseen for ever
                logger.exception("looking at the engines failed")
            self._looked.set()
            await asyncio.sleep(self._patience.watch_s)

    async def _get_to_know(self) -> None:
        """Open the checkpoint's composer, once an engine tells what it serves."""
        served = [node.served for node in self._fleet.healthy if node.served is not None]
        if self.composer is None and served:
            try:
                composer = await self._beside(lambda: open_composer_of(served[0], self._settings))
            except EngineError as error:
                self._failure = EngineFailed(error.cause, error.advice)
                return
            self._failure = None
            self._pictures = Pictures(composer.media)
            self._signs = Signs(composer.tokens.added)
            self._fleet.layout = composer.facts.layout
            self.composer = composer

    async def _serve(self, stream: AnswerStream) -> None:
        try:
            await self._answer(stream)
        except (asyncio.CancelledError, Stopped):
            stream.close()
        except EngineError as error:
            stream.finish(error=error)
        except Exception:  # told to the one who asked; the others go on
            logger.exception("asking an engine failed")
            stream.finish(error=EngineFailed("The question could not be asked.", "Ask again."))
        finally:
            with self._lock:
                self._open.discard(stream)

    async def _answer(self, stream: AnswerStream) -> None:
        await self._looked.wait()
        composer, pictures = self.composer, self._pictures
        if composer is None or pictures is None:
            raise copy(self._failure) if self._failure else self._fleet.fault()
        ready = partial(prepare, composer, pictures, self._signs, stream)
        conversation = stream.request.conversation
        prepared = ready() if is_quick(conversation) else await self._beside(ready)
        writing = Writing(stream, prepared.budget, self._signs.left_out)
        key = key_of(stream.request.session, stream.request.conversation)
        await self._fleet.answer(key, prepared.order, writing)
        writing.finish()

    async def _beside(self, work: Callable[[], Value]) -> Value:
        """`work` done by a preparing thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _gather(settings: Settings, connections: Connections, patience: Patience) -> Fleet:
    """The engines that the settings name."""
    key = read_key(settings.api_key_file)
    addresses = [read_address(typed) for typed in settings.engines]
    listing = Listing(Path(settings.engines_file).expanduser()) if settings.engines_file else None

    def make(address: Address) -> Node:
        return Node(address, connections, key, patience)

    return Fleet(addresses, listing, make, patience)


def _cancel(task: "Future[None]") -> None:
    task.cancel()


def _describe(healthy: Sequence[Node], count: int) -> str:
    """As "vLLM at llm:8000", or "2 of 3 engines (vLLM)"."""
    kinds = dict.fromkeys(str(node.served.software) for node in healthy if node.served)
    if count == 1:
        return f"{next(iter(kinds))} at {healthy[0].address.label}"
    return f"{len(healthy)} of {count} engines ({', '.join(kinds)})"


def _unable(healthy: Sequence[Node], layout: Layout) -> tuple[Inability, ...]:
    """What one of the engines cannot do, since nobody chooses which one answers."""
    found: dict[str, Inability] = {}
    for served in (node.served for node in healthy if node.served):
        unable = choose_dialect(served.software, layout).unable
        for one in unable if served.sees else (*BLIND, *unable):
            found.setdefault(one.what, one)
    return tuple(found.values())
