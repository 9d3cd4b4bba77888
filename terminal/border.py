"""The border to the shell: what comes out is text in UTF-8, an exit status, and never a traceback.

Exit statuses: 2 for what the person can mend, 3 for what failed here, 128 + n for signal n.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TextIO

from backend.engine import Engine, State
from backend.errors import BadCheckpoint, BadInput, EngineError
from terminal.report import harmless

BAD_INPUT = 2
FAILED = 3
PATIENCE_S = 5.0  # several steps of a large model on a CPU
PATIENCE_LOADING_S = 0.2
logger = logging.getLogger(__name__)


def run_guarded(run: Callable[[], int]) -> int:
    """The exit status of `run`, with one line on stderr if it raises."""
    _open_closed_streams()
    _write_utf8(sys.stdout, sys.stderr)
    try:
        status = run()
        sys.stdout.flush()
        return status
    except (BadInput, BadCheckpoint) as error:
        return _refuse(error, BAD_INPUT)
    except EngineError as error:
        return _refuse(error, FAILED)
    except BrokenPipeError:
        # Whoever read us has left; Python would complain about its own last flush otherwise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # a fault of ours: a person gets a line, the log the traceback
        logger.exception("unexpected")
        return _refuse(f"Something failed that should not ({error!r}). Try --verbose.", FAILED)


def leave(status: int) -> NoReturn:
    """End the process at once: to take torch apart object by object would cost seconds."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def close_soon(engine: Engine) -> None:
    """End the engine's requests at once and wait a little for its threads.

    Loading cannot be hurried, nor can a step that hangs; they end with the process.
    """
    loading = engine.status().state is State.LOADING
    closing = threading.Thread(target=engine.close, name="closing", daemon=True)
    closing.start()
    closing.join(PATIENCE_LOADING_S if loading else PATIENCE_S)


def set_up_log(verbose: bool, level: int = logging.WARNING) -> None:
    """Log to stderr from `level` on, with `verbose` from INFO on."""
    logging.basicConfig(
        stream=sys.stderr,
        level=min(level, logging.INFO) if verbose else level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def _refuse(reason: object, status: int) -> int:
    print(harmless(" ".join(str(reason).split())), file=sys.stderr)
    return status


def _open_closed_streams() -> None:
    """What a shell closed (`>&-`) becomes a stream to nowhere: the answer is still made."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _write_utf8(*streams: TextIO) -> None:
    for stream in streams:
        # Bytes of the command line that are no UTF-8 come back as escapes instead of an error.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(encoding="utf-8", errors="backslashreplace")
