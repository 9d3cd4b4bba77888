"""The store: files that came with requests, in a private folder, each while somebody needs it.

Files are named by their content, so that a picture that several requests bring is written once,
and what it is called on disk is nobody's choice. Knows no pictures.
"""

import hashlib
import os
import threading
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from door.refusals import too_many

MOST_BYTES = 4_000_000_000  # of all files, or who sends much would fill the disk


class Store:
    """Files by content. Thread-safe; `close` removes the folder."""

    def __init__(self) -> None:
        self._free = MOST_BYTES
        self._folder = TemporaryDirectory(prefix="chat-door-", ignore_cleanup_errors=True)
        self._needed: Counter[Path] = Counter()
        self._sizes: dict[Path, int] = {}
        self._lock = threading.Lock()

    def keep(self, content: bytes) -> Path:
        """Write a file unless it is there, and hold it until `drop` was called as often.

        Raises `Refused` when there is no room for it.
        """
        path = Path(self._folder.name, hashlib.sha256(content).hexdigest())
        with self._lock:
            if path not in self._sizes:
                if len(content) > self._free:
                    raise too_many("Too many files are here already. Ask again in a moment.")
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with open(descriptor, "wb") as file:
                    file.write(content)
                self._sizes[path] = len(content)
                self._free -= len(content)
            self._needed[path] += 1
        return path

    def drop(self, path: Path) -> None:
        """One request less needs the file; nobody does when it was the last."""
        with self._lock:
            self._needed[path] -= 1
            if self._needed[path] <= 0:
                del self._needed[path]
                self._free += self._sizes.pop(path)
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove everything."""
        self._folder.cleanup()


class Lease:
    """The files of one request; `end` gives them all back, once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: list[Path] = []

    def keep(self, content: bytes) -> Path:
        """Hold a file with this content until the lease ends."""
        path = self._store.keep(content)
        self._held.append(path)
        return path

    def end(self) -> None:
        """Give back what was held."""
        while self._held:
            self._store.drop(self._held.pop())
