"""A thread with an event loop in it, for everything that waits for the network."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any


class Loop:
    """Runs coroutines handed over from any thread; those handed over early wait for `start`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._roots: set[asyncio.Task[None]] = set()
        self._last: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin. Call once."""
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, None]) -> "Future[None]":
        """Have `work` done; cancelling the future cancels it there."""
        return asyncio.run_coroutine_threadsafe(self._rooted(work), self._loop)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel everything, do what is `last`, and wait until it has ended."""
        self._last = last
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread.ident is None:
            self._thread.start()  # what was handed over before a start is ended as well
        self._thread.join()

    async def _rooted(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._roots.add(task)
        try:
            await work
        finally:
            self._roots.discard(task)

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(asyncio.sleep(0))  # what was handed over last has begun
            # Only ours: the libraries' own tasks are ended by those who began them.
            for task in (roots := list(self._roots)):
                task.cancel()
            loop.run_until_complete(asyncio.gather(*roots, return_exceptions=True))
            if self._last is not None:
                loop.run_until_complete(self._last())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
