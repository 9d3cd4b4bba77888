"""Chat with InternVL3 about pictures and videos: `python app.py --help`.

Here the parts meet: the command line chooses, the engine is made, the page or the terminal gets
it. What is slow to import is imported when it is needed, the page before the model.
"""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until somebody listens below, a Ctrl-C ends the imports without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from backend.engine import Engine
from backend.offers import Picker
from backend.settings import Settings
from backend.switching import SwitchingEngine
from terminal.arguments import Ask, Batch, Command, Serve, read_command
from terminal.border import close_soon, leave, run_guarded, set_up_log
from terminal.hosting import lends_gpus, settle_model, words_of_host
from terminal.interruption import Interruption
from terminal.plan import MakePlan, make_plan

if TYPE_CHECKING:
    from backend.local.engine import LocalEngine
    from backend.prompt.compose import Composer
    from backend.remote.engine import RemoteEngine


def main(words: Sequence[str]) -> int:
    """Run a command line; returns the exit status."""
    return run_guarded(lambda: run(words))


def run(words: Sequence[str]) -> int:
    """What `words` ask for. Raises what `run_guarded` turns into a line."""
    command = settled(read_command(words or words_of_host(os.environ)))
    match command:
        case Serve():
            return serve(command)
        case Ask(dry_run=True):
            return preview(command)
        case Ask():
            return answer(command)
        case Batch():
            return answer_all(command)
        case MakePlan():
            return make_plan(command)


def settled(command: Command) -> Command:
    """The command with the model that it means on this machine."""
    if isinstance(command, MakePlan):
        return command
    return replace(command, settings=settle_model(command.settings))


def serve(command: Serve) -> int:
    """The page first, so that it can be reached at once; then the engine's heavy imports."""
    from terminal.serve import free_port, own_folder, wait

    set_up_log(command.verbose)
    settings = replace(command.settings, port=free_port(command.settings))
    with own_folder():
        # Before signals are merely noted: a Ctrl-C during these imports ends them at once.
        make: Any = partial(SwitchingEngine, make=make_engine) if settings.may_pick else make_engine
        engine = make(settings)
        from door import open_door
        from ui import build_page, launch_options

        door = open_door(engine, lambda: engine.composer, settings)
        with Interruption() as interruption, closing(door):
            picker = make_picker(engine) if isinstance(engine, SwitchingEngine) else None
            page = build_page(door.engine, lambda: engine.composer, settings, picker=picker)
            options = launch_options(settings, door.around)
            _, address, _ = page.launch(prevent_thread_lock=True, **options)
            engine.start()
            wait(interruption, address, engine.status)
            close_soon(engine)
            # An open tab would hold its connection for ever, and that it breaks off is no fault.
            page.server.force_exit = logging.getLogger("uvicorn.error").disabled = True
            page.close(verbose=False)
    return 0


def preview(command: Ask) -> int:
    """A dry run: no engine, no weights."""
    from terminal.dry_run import dry_run

    set_up_log(command.verbose, logging.CRITICAL)
    return dry_run(command)


def answer(command: Ask) -> int:
    """A conversation in the terminal, once all is checked that needs no model."""
    from terminal.ask import ask
    from terminal.dry_run import check, check_kinds

    set_up_log(command.verbose, logging.CRITICAL)
    if command.settings.remote:
        check_kinds(command.turns)
    else:
        check(command)
    with running_engine(command.settings) as (engine, interruption):
        return ask(command, engine, interruption)


def answer_all(command: Batch) -> int:
    """The rows of a file; what is no file of rows is refused before a model is loaded."""
    from terminal.batch import answer_rows, read_rows

    set_up_log(command.verbose, logging.CRITICAL)
    read_rows(command.rows)
    with running_engine(command.settings) as (engine, interruption):
        return answer_rows(command, engine, interruption)


def make_engine(settings: Settings) -> "LocalEngine | RemoteEngine":
    """The engine of this process, or the one elsewhere; neither has begun to work."""
    if settings.remote:
        from backend.remote.engine import RemoteEngine

        return RemoteEngine(settings)
    if lends_gpus(os.environ):
        from spaces import GPU  # installed in such Spaces alone, and before torch is imported

        from backend.local.zero import ZeroEngine

        return ZeroEngine(settings, GPU)
    from backend.local.engine import LocalEngine

    return LocalEngine(settings)


def make_picker(engine: "SwitchingEngine[Composer]") -> Picker:
    """What lets the page change the model of `engine`."""
    from backend.planner.offers import Offers

    return Picker(Offers(engine.settings).list, lambda: engine.settings, engine.choose)


@contextmanager
def running_engine(settings: Settings) -> Iterator[tuple[Engine, Interruption]]:
    """An engine for the terminal, loading in its own thread, and ended with the block."""
    with Interruption() as interruption:
        engine = make_engine(settings)
        engine.start()
        try:
            yield engine, interruption
        finally:
            close_soon(engine)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    leave(main(sys.argv[1:]))
