"""Two schedulers on one ledger: one is at work, the other takes its place; no run is lost, and none is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from jobs.scheduler.daemon import STAND_BY_SECONDS
from monitoring.ledger import Ledger
from tests.faults.silence import SilentProxy
from tests.polling import poll
from tests.postgres import PASSWORD, Postgres
from tests.test_schedule_command import Schedule
from tests.tiny_job import TinyJob

TAKEOVER_SECONDS = 10.0
"""What the README states of a scheduler whose process died."""


class Host(Schedule[TinyJob]):
    """A host of its own: it shares job files and PostgreSQL with the others, and has a folder for its state."""

    def __init__(self, folder: Path, job: TinyJob, location: str) -> None:
        folder.mkdir()
        self.folder, self.job, self.log = folder, job, folder / "scheduler.log"
        self.variables = {**os.environ, "BATCHGAUGE_LEDGER": location, "BATCHGAUGE_STATE": str(folder / "state")}
        self.ledger = Ledger.open(location, folder=folder / "state")

    def ready(self) -> tuple[int, str]:
        """What its `/readyz` answers."""
        answer = httpx.get(f"{self.url()}/readyz", trust_env=False)
        return answer.status_code, " ".join(answer.json()["reasons"])


@contextmanager
def one_standing_by(first: Host, second: Host) -> Iterator[subprocess.Popen[bytes]]:
    """The first's scheduler is at work, and given; the second's stands by."""
    with first.running() as active:
        first.until("scheduler began")
        with second.running("--sync-every", "1s"):
            second.until("stands by")
            yield active


@pytest.fixture
def hosts(postgres: Postgres, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    job, location = TinyJob(tmp_path / "job"), postgres.new_database()
    first, second = (Host(tmp_path / name, job, location) for name in ("first", "second"))
    yield first, second
    for host in (first, second):
        host.ledger.close()


def test_a_scheduler_that_was_killed_is_replaced_and_its_run_goes_on(hosts: tuple[Host, Host]) -> None:
    """The other says that it stands by, until it takes over, and looks after the run to its end."""
    first, second = hosts
    first.due_a_minute_ago(rows=3000)
    first.job.slow_down(seconds_for_each_batch=0.2)
    with one_standing_by(first, second) as active:
        poll(lambda: first.ledger.state("tiny").running, deadline_seconds=60)
        assert first.ready() == (200, "")
        code, reasons = second.ready()
        assert (code, "stands by" in reasons) == (503, True)
        assert httpx.get(f"{second.url()}/healthz", trust_env=False).status_code == 200
        active.kill()
        second.until("scheduler began")
        assert 5 * STAND_BY_SECONDS < TAKEOVER_SECONDS  # how often it tries; how long one try takes is the machine's business
        second.until("tiny: success after")
        assert second.ready() == (200, "")
    assert second.outcomes() == ["success"]
    text = first.log.read_text() + second.log.read_text()
    assert text.count("tiny: started (trigger scheduler, due ") == 1
    assert "Traceback" not in text
    assert PASSWORD not in text


def test_a_run_that_died_with_its_host_is_known_to_have_failed(hosts: tuple[Host, Host]) -> None:
    """Its time was claimed: it is not done again, and counted as what it was."""
    first, second = hosts
    first.due_a_minute_ago(rows=3000)
    first.job.slow_down(seconds_for_each_batch=0.5)
    with one_standing_by(first, second) as active:
        poll(lambda: first.ledger.state("tiny").running, deadline_seconds=60)
        children = psutil.Process(active.pid).children(recursive=True)
        active.kill()
        for process in children:
            process.kill()
        second.until("scheduler began")
        poll(lambda: second.outcomes() == ["failed"], deadline_seconds=60)
    assert second.outcomes() == ["failed"]


def test_what_was_due_while_nobody_was_at_work_is_done_by_who_takes_over(hosts: tuple[Host, Host]) -> None:
    """Once. And one that stands by and is asked to end does so."""
    first, second = hosts
    with first.running() as active:
        first.until("scheduler began")
        with second.running() as standing_by:
            second.until("stands by")
            standing_by.terminate()
            assert standing_by.wait(30) == 0
        active.kill()
        active.wait()
    first.due_a_minute_ago(rows=300)
    with second.running(), first.running():
        poll(lambda: "success" in second.outcomes(), deadline_seconds=60)
    assert second.outcomes() == ["success"]


def test_a_scheduler_that_was_cut_off_and_replaced_ends(hosts: tuple[Host, Host], postgres: Postgres) -> None:
    """It says why, leaves what runs alone, and exits 1, so that whoever watches over it starts it again."""
    first, second = hosts
    with first.running() as active:
        first.until("scheduler began")
        os.kill(active.pid, signal.SIGSTOP)  # as good as a network that is cut
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        with second.running():
            second.until("scheduler began")
            os.kill(active.pid, signal.SIGCONT)
            assert active.wait(60) == 1
    assert "another scheduler has taken over" in first.log.read_text()
    assert "Traceback" not in first.log.read_text()


@pytest.mark.parametrize("how", ["cut off", "frozen"])
def test_a_scheduler_of_which_nothing_is_heard_is_replaced_and_starts_nothing_when_it_comes_back(
    postgres: Postgres, tmp_path: Path, how: str
) -> None:
    """Although the kernels go on answering each other: PostgreSQL takes its lock from it. What is due is run once."""
    job, location = TinyJob(tmp_path / "job"), postgres.new_database()
    with SilentProxy(postgres.port) as network, ExitStack() as hosts:
        first, second = (Host(tmp_path / name, job, location) for name in ("first", "second"))
        first.variables["BATCHGAUGE_LEDGER"] = location.replace(f":{postgres.port}/", f":{network.port}/")
        for host in (first, second):
            hosts.callback(host.ledger.close)
            host.program = "tests.hasty_cli"
        job.spec = job.spec.rename(job.folder / "tiny.later")  # nobody knows it yet
        with one_standing_by(first, second) as active:
            network.fall_silent() if how == "cut off" else active.send_signal(signal.SIGSTOP)
            second.until("scheduler began")
            second.due_a_minute_ago(rows=300)
            job.spec = job.spec.rename(job.folder / "tiny.toml")
            if how == "cut off":
                first.until("trying again")
            network.heal()
            active.send_signal(signal.SIGCONT)
            assert active.wait(60) == 1
            second.until("tiny: success after")
        assert second.outcomes() == ["success"]
    assert "another scheduler has taken over" in first.log.read_text()
    assert "tiny: started" not in first.log.read_text()
    assert second.log.read_text().count("tiny: started (trigger scheduler, due ") == 1
    assert "Traceback" not in first.log.read_text() + second.log.read_text()
