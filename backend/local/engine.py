"""The engine in this process: loads a checkpoint in its own thread and answers requests.

    any thread: stream(request) ──▶ waiting line ──▶ worker thread ──▶ answer streams
                                      ▲    │
                              preparing threads (files, prompt)

Requests are taken while the model is still loading; they are prepared and wait. Importing this
module does not import torch.
"""

import gc
import sys
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

from backend.checkpoint.find import find_checkpoint, name_of
from backend.conversation import Attachment, Request
from backend.engine import State, Status
from backend.errors import EngineError, EngineFailed
from backend.local.faults import explain_loading, explain_preparing
from backend.local.memory.ahead import Ahead
from backend.local.preparation import cut, prepare
from backend.local.stages import Report
from backend.local.stopping import Stopped
from backend.local.waiting import Ticket, WaitingLine
from backend.local.worker import Model, Worker
from backend.planner.choose import say_why_dtype
from backend.prompt.compose import Composer, open_composer
from backend.settings import Settings
from backend.stream import AnswerStream

PREPARING_THREADS = 2

Open = Callable[[Settings], Composer]
Load = Callable[[Settings, Composer, Report], Model]


def open_checkpoint(settings: Settings) -> Composer:
    """The composer of the chosen checkpoint, from its small files alone."""
    folder = find_checkpoint(settings.model, settings.revision, only_facts=True)
    name = name_of(settings.model)
    if settings.adapter:
        name = f"{name} + {Path(settings.adapter).name}"
    return open_composer(folder, settings, name)


def load_checkpoint(settings: Settings, composer: Composer, report: Report) -> Model:
    """The model itself. Imports torch, so only the worker's thread calls it."""
    from backend.local.load import load_checkpoint as load

    return load(settings, composer, report)


class LocalEngine:
    """Satisfies `backend.engine.Engine`. Call `start` once; `composer` is there soon after."""

    def __init__(
        self, settings: Settings, load: Load = load_checkpoint, open_: Open = open_checkpoint
    ) -> None:
        self.composer: Composer | None = None
        self._settings = settings
        self._load = load
        self._open = open_
        self._line = WaitingLine(settings.max_queue)
        self._ahead = Ahead(self._line.wake)
        self._status = Status(State.LOADING, name_of(settings.model))
        self._failure: EngineError | None = None
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to load, in the worker's thread."""
        self._spawn("model", self._run)

    def stream(self, request: Request) -> AnswerStream:
        """Begin to answer; returns at once, also while the model is loading.

        Raises `EngineBusy` when the line is full, and when the model could not be loaded the
        reason: `EngineFailed`, `BadCheckpoint` or `BadSetting`.
        """
        stream = AnswerStream(request)
        self._line.join(Ticket(stream))
        if self._closing.is_set() or self._failure is not None:
            stream.close()
            # A copy, since each reader adds its own traceback to the error it raises.
            raise copy(self._failure) if self._failure else _closed()
        return stream

    def expect(self, session: str, files: tuple[Attachment, ...]) -> None:
        """Cut these files at once, and encode them while nobody is answered."""
        self._ahead.expect(session, files)

    def status(self) -> Status:
        """What the engine is doing now."""
        return replace(self._status, waiting=len(self._line))

    def close(self) -> None:
        """End all requests, free the model and wait for the threads."""
        self._closing.set()
        self._ahead.shut()
        for ticket in self._line.shut():
            ticket.stream.close()
        for thread in self._threads:
            thread.join()

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        try:
            self._load_and_serve()
        finally:
            # A network refers to itself in a ring; what it keeps on the disk is removed with it.
            gc.collect()
            if "torch" in sys.modules:  # else nothing was loaded
                from backend.local.devices import give_back

                give_back()

    def _load_and_serve(self) -> None:
        try:
            model = self._get_ready()
        except Stopped:
            return
        except Exception as error:  # whatever keeps the model from loading is told to people
            self._fail(explain_loading(error, self._status.model))
            return
        self._status = replace(
            self._status,
            state=State.READY,
            share=1.0,
            doing="",
            device=model.device,
            precision=model.precision,
            why=say_why_dtype(self._settings.dtype, model.precision.split()[-1], model.device),
            attention=model.attention,
            batching=str(model.batching),
            at_once=model.batching.at_once,
        )
        broken = Worker(self._line, model, self._ahead).run()
        if broken is not None:
            self._fail(broken)

    def _get_ready(self) -> Model:
        composer = self._open(self._settings)
        self._report(0.0, "")
        self._status = replace(self._status, model=composer.facts.name)
        self.composer = composer
        for number in range(PREPARING_THREADS):
            self._spawn(f"preparing-{number}", lambda: self._prepare(composer))
        self._spawn("preparing-ahead", lambda: self._cut_ahead(composer))
        return self._load(self._settings, composer, self._report)

    def _report(self, share: float, doing: str = "placing") -> None:
        """The loading has come this far; raises `Stopped` when it is not wanted any more."""
        if self._closing.is_set():
            raise Stopped
        self._status = replace(self._status, share=share, doing=doing)

    def _fail(self, failure: EngineError) -> None:
        self._failure = failure
        self._ahead.shut()
        self._status = replace(self._status, state=State.FAILED, reason=str(failure), doing="")
        for ticket in self._line.shut():
            ticket.stream.finish(error=copy(failure))

    def _prepare(self, composer: Composer) -> None:
        while (ticket := self._line.next_unprepared()) is not None:
            try:
                prepared = prepare(composer, ticket.stream)
            except Exception as error:  # told to the one who asked; the others go on
                self._line.leave(ticket)
                if not ticket.stream.closed:
                    ticket.stream.finish(error=explain_preparing(error))
            else:
                self._line.prepared(ticket, prepared)

    def _cut_ahead(self, composer: Composer) -> None:
        while (file := self._ahead.next_uncut()) is not None:
            try:
                self._ahead.cut(file, cut(composer.media, file, self._ahead.unwanted(file)))
            except Exception:  # a hint: whoever asks about the file is told what is wrong with it
                continue


def _closed() -> EngineFailed:
    return EngineFailed("The engine is closed.", "Start the app again.")
