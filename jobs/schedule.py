"""The scheduler as a process: its ledger, its log, its pages, its signals."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TextIO

from jobs.scheduler import Daemon, Settings
from jobs.scheduler.log import Log
from jobs.web.app import application
from jobs.web.server import is_loopback, listening, serving
from monitoring.ledger import Hold, Ledger, LockHeld


def serve(settings: Settings, *, stream: TextIO, log_json: bool) -> None:
    """Schedule until SIGTERM or SIGINT.

    Where the ledger has a scheduler already, this one waits to take its place, if they share it across hosts.
    Raises `LockHeld` otherwise, `SpecError` when it can't listen where it should.
    """
    log = Log(stream, as_json=log_json)
    with settings.environment.open_ledger() as ledger, ExitStack() as place:
        daemon = Daemon(settings, ledger, log)
        turn = _Turn(ledger, place)
        if not ledger.shared:
            turn.take()
        with _signals(daemon), served(daemon, ledger, settings, log):
            if not ledger.shared or daemon.stand_by(turn.came):
                daemon.run(place=turn.hold)


class _Turn:
    """Being the ledger's one scheduler: waited for, had, perhaps lost."""

    def __init__(self, ledger: Ledger, place: ExitStack) -> None:
        self._ledger = ledger
        self._place = place
        self.hold: Callable[[], Hold] = lambda: Hold.LOST

    def take(self) -> None:
        """Take it, until the stack ends. Raises `LockHeld`."""
        self.hold = self._place.enter_context(self._ledger.scheduler_lock())

    def came(self) -> bool:
        """Take it if it is free."""
        try:
            self.take()
        except LockHeld:
            return False
        return True


@contextmanager
def served(daemon: Daemon, ledger: Ledger, settings: Settings, log: Log) -> Iterator[str | None]:
    """Its pages, metrics and the door for alerts, while inside, where the settings say; the base URL is given, if any."""
    if settings.listen is None:
        yield None
        return
    token = settings.alerts_token
    with listening(settings.listen) as listener:
        pages = application(daemon, ledger, token=token, loopback_only=is_loopback(listener), log=log)
        with serving(pages, listener) as url:
            alerts = "takes alerts" if token else "takes no alerts (BATCHGAUGE_ALERTS_TOKEN_FILE is not set)"
            log("serving", f"serves {url}/, {url}/metrics; {alerts}", url=url)
            yield url


@contextmanager
def _signals(daemon: Daemon) -> Iterator[None]:
    """SIGTERM and SIGINT stop it, SIGHUP has it read changed job files now. The handlers from before are put back."""

    def handler(act: Callable[[signal.Signals], None]) -> Callable[[int, FrameType | None], None]:
        return lambda number, _frame: act(signal.Signals(number))

    def stop(number: signal.Signals) -> None:
        daemon.stop(number.name)

    handlers = {
        signal.SIGTERM: handler(stop),
        signal.SIGINT: handler(stop),
        signal.SIGHUP: handler(lambda _number: daemon.reload()),
    }
    before = {number: signal.signal(number, act) for number, act in handlers.items()}
    try:
        yield
    finally:
        for number, act in before.items():
            signal.signal(number, act)
