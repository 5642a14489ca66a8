"""The scheduler as a process: its ledger, its log, its signals."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from jobs.scheduler.daemon import Daemon
from jobs.scheduler.log import Log
from jobs.scheduler.settings import Settings
from monitoring.ledger import Ledger


def serve(settings: Settings, *, stream: TextIO, log_json: bool) -> None:
    """Schedule until SIGTERM or SIGINT. Raises `SpecError`, and `LedgerError` when there is a scheduler already."""
    with Ledger.open(settings.environment.ledger) as ledger:
        daemon = Daemon(settings, ledger, Log(stream, as_json=log_json))
        with _signals(daemon):
            daemon.run()


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
