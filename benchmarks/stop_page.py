"""Stop on the served page, as a browser does it: until the page is free, or, for a closed tab,
until the model is idle. Every try goes through Gradio's server, by HTTP."""

import time
from collections.abc import Callable, Iterator, Sequence

from backend.prompt.compose import Composer
from benchmarks.measurement import Measurement, Spread, at_most, spread
from benchmarks.stop_lab import SHORT, STEPS_BEFORE, WRITING_S, Lab
from benchmarks.tab import Tab, serve
from benchmarks.watched import Run
from ui.sessions import Sessions
from ui.uploads import draw_card

FREE_S = 0.5
RIVAL = "rival: the card's way until its end"


def measure(lab: Lab, tries: int, card: Spread) -> Iterator[Measurement]:
    """Stop in each state, and a closed tab; `card` is what the card's way takes, in s."""
    composer = lab.engine.composer
    assert composer is not None, "the engine is ready, so it has a composer"
    sessions = Sessions()
    with serve(lab.engine, composer, sessions) as port:
        visits = Visits(lab, composer, sessions, port)
        for name, visit in (
            ("Stop on the page while writing → page free", visits.stop_writing),
            ("Stop on the page in prefill → page free", visits.stop_reading),
            ("Stop on the page in the queue → page free", visits.stop_waiting),
            ("closed tab while writing → model idle", visits.leave_writing),
            ("closed tab in prefill → model idle", visits.leave_reading),
        ):
            yield report(name, [visit() for _ in range(tries)], card)


def report(name: str, waited: Sequence[float], card: Spread) -> Measurement:
    """Seconds, of which 99 % shall be within half of one."""
    ours = spread(waited)
    return Measurement(
        f"{name}, {RIVAL}",
        "s",
        ours,
        card,
        spread([card.median / seconds for seconds in waited]),
        at_most(ours.p99, FREE_S, "s", "p99"),
    )


class Visits:
    """One visit is a new tab that asks, and is stopped or closed at a random moment."""

    def __init__(self, lab: Lab, composer: Composer, sessions: Sessions, port: int) -> None:
        self._lab = lab
        self._sessions = sessions
        self._port = port
        self._files = lab.long.conversation.turns[-1].attachments
        self._cards = {file: draw_card(file, composer.media) for file in self._files}
        self._read_s = lab.read_through(lab.long).prefill_s

    def stop_writing(self) -> float:
        """Seconds from Stop to the page at rest."""
        tab, _ = self._write()
        return self._stop(tab)

    def stop_reading(self) -> float:
        """The same, before the first token."""
        return self._until_read(lambda tab, run: self._stop(tab))

    def stop_waiting(self) -> float:
        """The same, behind another's answer."""
        busy = self._lab.start_writing()
        tab = self._open()
        tab.ask(SHORT)
        self._pause(WRITING_S)
        free_s = self._stop(tab)
        busy.stream.close()
        busy.wait_until_idle()
        return free_s

    def leave_writing(self) -> float:
        """Seconds from the tab's end to the model at rest."""
        return self._leave(*self._write())

    def leave_reading(self) -> float:
        """The same, before the first token."""
        return self._until_read(self._leave)

    def _write(self) -> tuple[Tab, Run]:
        tab = self._open()
        tab.ask(SHORT)
        run = self._lab.watch.run_from(tab.session)
        run.wait_for_steps(STEPS_BEFORE)
        self._pause(WRITING_S)
        return tab, run

    def _until_read(self, visit: Callable[[Tab, Run], float]) -> float:
        """A visit with the long question, again until it ended before the first token."""
        while True:
            tab = self._open()
            session = self._sessions.of(tab.session)
            for file in self._files:
                session.add(file.name, file)
            session.cards.update(self._cards)
            tab.ask(self._lab.long.conversation.turns[-1].question)
            run = self._lab.watch.run_from(tab.session)
            self._pause(run.begun + self._read_s - time.perf_counter())
            seconds = visit(tab, run)
            run.wait_until_idle()
            if not run.stream.token_ids:
                return seconds

    def _open(self) -> Tab:
        return Tab(self._port)

    def _pause(self, most_s: float) -> None:
        time.sleep(self._lab.random.uniform(0, max(0.0, most_s)))

    def _stop(self, tab: Tab) -> float:
        pressed = time.perf_counter()
        tab.stop()
        free_s = tab.wait_until_free() - pressed
        tab.close()
        return free_s

    def _leave(self, tab: Tab, run: Run) -> float:
        left = time.perf_counter()
        tab.close()
        return run.wait_until_idle() - left
