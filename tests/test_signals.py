"""Signals ask a run to stop."""

from __future__ import annotations

import os
import signal

import pytest

from jobs.signals import GRACE_SECONDS, stopping
from pipelines.cancellation import Cancellation, Cancelled


class Clock:
    """Time that stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_signal_lets_a_quick_part_finish_and_the_second_does_not() -> None:
    """No new part is taken at once; the part in hand is dropped after the grace, or at the second signal."""
    clock = Clock()
    cancellation = Cancellation(clock)
    with stopping(cancellation) as stop:
        assert stop.exit_code is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert cancellation.requested
        cancellation.check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Cancelled, match="stopped by SIGTERM"):
            cancellation.check()
    assert stop.exit_code == 143


def test_the_grace_runs_out() -> None:
    """A long part is dropped between two of its batches."""
    clock = Clock()
    cancellation = Cancellation(clock)
    cancellation.request("timeout", grace_seconds=GRACE_SECONDS)
    cancellation.check()
    clock.now += GRACE_SECONDS
    with pytest.raises(Cancelled, match="timeout"):
        cancellation.check()


def test_a_third_signal_ends_a_process_that_hangs() -> None:
    """A batch that never ends can't be stopped between two batches."""
    pid = os.fork()
    if not pid:
        with stopping(Cancellation()):
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 143


def test_the_handlers_from_before_are_put_back() -> None:
    """After a run a signal does what it did before."""
    before = signal.getsignal(signal.SIGTERM)
    with stopping(Cancellation()):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
