"""An engine whose model can be changed: it holds one engine, and after `choose` another.

    choose(settings) ──▶ answers of the old end with a reason ──▶ the old is closed, its memory
    free ──▶ only now the new one begins to load

The new engine takes questions at once; they wait until it is loaded. Whoever chooses last wins.
How engines are made is told from outside, so nothing here knows what a model is or needs.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from backend.conversation import Attachment, Request
from backend.engine import Engine, State, Status, Stream
from backend.errors import ModelChanged
from backend.settings import Settings

Known_co = TypeVar("Known_co", covariant=True)


class Loadable(Engine, Protocol[Known_co]):
    """An engine that loads once it is started; `composer` is what it knows of its checkpoint."""

    @property
    def composer(self) -> Known_co | None:
        """`None` until the checkpoint's small files were read."""
        ...

    def start(self) -> None:
        """Begin to load. Returns at once."""
        ...


class SwitchingEngine(Generic[Known_co]):
    """Satisfies `backend.engine.Engine`. Call `start` once, `choose` from any thread."""

    def __init__(self, settings: Settings, make: Callable[[Settings], Loadable[Known_co]]) -> None:
        self._make = make
        self._settings = settings
        self._engine = make(settings)
        self._started = False  # whether the engine at hand was
        self._leaving: list[Loadable[Known_co]] = []  # to be closed before the next is started
        self._streams: WeakSet[Stream] = WeakSet()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="switching", daemon=True)

    @property
    def composer(self) -> Known_co | None:
        """What the engine at hand knows of its checkpoint; ask anew each time."""
        return self._engine.composer

    @property
    def settings(self) -> Settings:
        """What was chosen last."""
        return self._settings

    def start(self) -> None:
        """Begin to load the first model."""
        self._thread.start()

    def choose(self, settings: Settings) -> bool:
        """Change to the model of `settings`; returns at once, and whether there is a change.

        What is chosen already is not loaded again, unless it failed. An answer that is being
        written or waits ends with `ModelChanged`, also one of a model that was still loading.
        """
        with self._changed:
            failed = self._engine.status().state is State.FAILED
            if self._closed or (settings == self._settings and not failed):
                return False
            engine = self._make(settings)
            model = engine.status().model
            # Before the old engine is left to the thread: its closing ends streams with no reason.
            for stream in list(self._streams):
                stream.close(ModelChanged(f"The model was changed to {model}.", "Ask again."))
            self._streams.clear()
            self._leaving.append(self._engine)
            self._engine, self._settings, self._started = engine, settings, False
            self._changed.notify_all()
        return True

    def stream(self, request: Request) -> Stream:
        """Begin to answer with the model at hand; raises what its engine raises."""
        with self._changed:
            stream = self._engine.stream(request)
            self._streams.add(stream)
            return stream

    def expect(self, session: str, files: tuple[Attachment, ...]) -> None:
        """Hand the hint on."""
        self._engine.expect(session, files)

    def status(self) -> Status:
        """What the engine at hand is doing, or which one it waits for."""
        status, leaving = self._engine.status(), tuple(self._leaving)
        if not leaving:
            return status
        return replace(status, doing=f"waiting for {leaving[0].status().model} to end")

    def close(self) -> None:
        """End all requests, free the model and wait for its threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._engine.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        """The switching thread: never two models at once, since two may not fit."""
        while True:
            while self._leaving:
                self._leaving[0].close()
                del self._leaving[0]
            with self._changed:
                if self._closed:
                    return
                if not (self._leaving or self._started):
                    self._engine.start()
                    self._started = True
                self._changed.wait_for(lambda: self._leaving or self._closed)
