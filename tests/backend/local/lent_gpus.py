"""A stand-in for the `spaces` package on ZeroGPU: forks, pipes and errors as in spaces 0.51.

What it shares with `spaces/zero/wrappers.py`: a call forks or takes a fork that is idle, arguments
and yielded things are pickled, a fork sees that its reader left only after its next yield, an
exception comes back as the name of its class, and a fork that dies ends the call.
"""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

visitor: ContextVar[str] = ContextVar("visitor", default="nobody")


class Refusal(Exception):
    """As gradio's Error, which spaces raises: the words are in `message`, perhaps with tags."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Fork:
    """A process that runs one generator after another."""

    def __init__(self, task: Callable[..., Any]) -> None:
        self.context = multiprocessing.get_context("fork")
        self.asked, self.told = self.context.SimpleQueue(), self.context.SimpleQueue()
        self.left = self.context.Event()
        self.process = self.context.Process(target=self._serve, args=(task,), daemon=True)
        with warnings.catch_warnings():  # Python 3.12 warns of forks beside threads
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()

    def _serve(self, task: Callable[..., Any]) -> None:
        while True:
            arguments = self.asked.get()
            self.left.clear()
            self._run(task(*arguments))
            self.told.put(("end", os.getpid()))

    def _run(self, generator: Generator[Any, None, None]) -> None:
        while True:
            try:
                value = next(generator)
            except StopIteration:
                return
            except Exception as error:
                self.told.put(("error", type(error).__name__))
                return
            if self.left.is_set():
                generator.close()
                return
            self.told.put(("value", value))

    def get(self) -> tuple[str, Any]:
        """What the fork tells next; ("dead", …) when it is gone."""
        while not self.told._reader.poll(0.02):
            if not self.process.is_alive():
                return "dead", "GPU task aborted"
        told: tuple[str, Any] = self.told.get()
        return told


class LentGpus:
    """`spaces.GPU`, and what a test wants to know of its use."""

    def __init__(self) -> None:
        self.decorated = 0
        self.durations: list[int] = []
        self.visitors: list[str] = []
        self.pids: list[int] = []
        self.refusal: Refusal | None = None
        self.forks: list[Fork] = []
        self._idle: list[Fork] = []

    def __call__(self, *, duration: Callable[..., int]) -> Callable[..., Callable[..., Any]]:
        def decorate(task: Callable[..., Any]) -> Callable[..., Any]:
            self.decorated += 1
            return lambda *arguments: self._call(task, duration, arguments)

        return decorate

    def _call(
        self, task: Callable[..., Any], duration: Callable[..., int], arguments: tuple[Any, ...]
    ) -> Generator[Any, None, None]:
        self.durations.append(duration(*arguments))
        self.visitors.append(visitor.get())
        if self.refusal is not None:
            raise self.refusal
        fork = self._idle.pop() if self._idle else Fork(task)
        self.forks.append(fork)
        assert fork.process.pid is not None
        self.pids.append(fork.process.pid)
        fork.asked.put(arguments)
        try:
            yield from self._read(fork)
        except GeneratorExit:
            fork.left.set()
            while fork.get()[0] == "value":
                pass
            self._idle.append(fork)
            raise

    def _read(self, fork: Fork) -> Generator[Any, None, None]:
        while True:
            kind, value = fork.get()
            if kind == "value":
                yield value
            elif kind == "end":
                self._idle.append(fork)
                return
            else:
                raise Refusal(value)

    def end(self) -> None:
        """Take every GPU away."""
        for fork in self.forks:
            fork.process.kill()
            fork.process.join()
