"""The sync: what the ledger knows, the gateways show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.delivery import push_jobs
from jobs.environment import Environment, read
from jobs.scheduler.sync import Sync
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from monitoring.push import Delivery, deliver
from monitoring.servers import Server
from monitoring.state import Destination, JobState
from pipelines.errors import LedgerError
from tests.faults.server import FaultServer, answer
from tests.reports import definition, run_start

JOBS = ("a", "b", "c")


@pytest.fixture
def environment() -> Environment:
    return read({})


@pytest.fixture
def known(ledger: Ledger) -> Ledger:
    """Three jobs that push nowhere."""
    for job in JOBS:
        ledger.register(definition(job), now=1000.0, next_expected_at=None)
    return ledger


def pushing(ledger: Ledger, url: str, **destination: object) -> None:
    for job in JOBS:
        there = Destination(gateway=url, **destination)  # type: ignore[arg-type]
        ledger.register(definition(job, destination=there), now=1000.0, next_expected_at=None)


def sync(ledger: Ledger, environment: Environment, *, busy: frozenset[str] = frozenset()) -> Sync:
    return Sync(ledger, environment, busy=lambda: busy, listing_seconds=0.3)


def shown(server: Server) -> dict[str, float | None]:
    return {group.labels["job"]: group.sequence for group in Gateway(server.url).groups()}


def test_what_is_owed_is_pushed_and_nothing_else(known: Ledger, environment: Environment, pushgateway: Server) -> None:
    """A second sync finds nothing to do."""
    pushing(known, pushgateway.url, labels={"env": "prod"})
    assert sync(known, environment).once().pushed == JOBS
    assert sync(known, environment).once().pushed == ()
    known.start_run(run_start("r", "b"), next_expected_at=None)
    result = sync(known, environment, busy=frozenset("b")).once()
    assert (result.pushed, result.ok) == (("b",), True)
    assert shown(pushgateway) == {job: known.state(job).sequence for job in JOBS}


def test_a_gateway_that_lost_its_memory_is_repaired(known: Ledger, environment: Environment, pushgateway: Server) -> None:
    """Wholly, or back to an older state: told by what it shows, not by clocks."""
    pushing(known, pushgateway.url)
    sync(known, environment).once()
    older = known.state("a")
    known.start_run(run_start("r", "a"), next_expected_at=None)
    deliver(known, "a")
    gateway = Gateway(pushgateway.url)
    gateway.delete({"job": "b"})
    gateway.put({"job": "a"}, b"# TYPE batch_state_sequence gauge\nbatch_state_sequence %d\n" % older.sequence)
    gateway.put({"job": "c"}, b"# TYPE batch_state_sequence gauge\nbatch_state_sequence NaN\n")
    assert sync(known, environment, busy=frozenset("a")).once().pushed == JOBS
    assert shown(pushgateway) == {job: known.state(job).sequence for job in JOBS}


def test_a_job_is_read_again_only_when_it_has_changed(
    known: Ledger, environment: Environment, pushgateway: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands that have not cost one query, and a gateway that forgot one of them is repaired all the same."""
    pushing(known, pushgateway.url)
    syncing = sync(known, environment, busy=frozenset("b"))
    assert [syncing.once().pushed, syncing.once().pushed] == [JOBS, ()]  # to be pushed is a change
    read_again: list[str] = []
    read_state = Ledger.state

    def counted(ledger: Ledger, job: str) -> JobState:
        read_again.append(job)
        return read_state(ledger, job)

    monkeypatch.setattr(Ledger, "state", counted)
    assert (syncing.once().pushed, read_again) == ((), [])
    Gateway(pushgateway.url).delete({"job": "a"})
    known.start_run(run_start("r", "b"), next_expected_at=None)
    assert syncing.once().pushed == ("a", "b")
    assert set(read_again) == {"a", "b"}


def test_a_gateway_that_is_down_is_asked_once_for_all_jobs(known: Ledger, environment: Environment) -> None:
    """Not once for each of two hundred."""
    with FaultServer(answer("404 Gone")) as server:
        pushing(known, server.url)
        result = sync(known, environment).once()
        assert len(server.requests) == 1
        url = server.url
    assert not result.ok
    assert "404" in result.errors[0]
    refused = sync(known, environment).once()
    assert len(refused.errors) == 1
    assert url in refused.errors[0]


def test_a_push_in_progress_does_not_stand_in_the_others_way(
    known: Ledger, environment: Environment, pushgateway: Server
) -> None:
    """It says nothing of the gateway."""
    pushing(known, pushgateway.url, timeout_seconds=0.3)
    with known.lock("push", "a"):
        result = sync(known, environment).once()
    assert result.pushed == ("b", "c")
    assert len(result.errors) == 1


def test_by_hand_a_silent_gateway_is_waited_for_once(
    known: Ledger, environment: Environment, pushgateway: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its jobs don't stop the others'; a job that nobody knows does, before anything is pushed."""
    waited: list[float | None] = []

    def deliver_noted(*arguments: Any, deadline_seconds: float | None = None, **options: Any) -> Delivery:
        waited.append(deadline_seconds)
        return deliver(*arguments, deadline_seconds=0.2, **options)

    monkeypatch.setattr("jobs.delivery.deliver", deliver_noted)
    with FaultServer(answer("404 Gone")) as server:
        pushing(known, server.url)
    elsewhere = Destination(gateway=pushgateway.url)
    known.register(definition("c", destination=elsewhere), now=1000.0, next_expected_at=None)
    with pytest.raises(LedgerError, match="nosuch"):
        push_jobs(known, ("c", "nosuch"), environment, only_owed=False)
    assert waited == []
    pushes = push_jobs(known, JOBS, environment, only_owed=False)
    assert [bool(push.error) for push in pushes] == [True, True, False]
    assert waited == [None, 1.0, None]
    pushing(known, pushgateway.url)
    with known.lock("push", "a"):  # another push is in progress: that says nothing of the gateway
        pushes = push_jobs(known, JOBS, environment, only_owed=False)
    assert [bool(push.error) for push in pushes] == [True, False, False]
    assert waited[3:] == [None, None, None]


def test_a_gateway_that_lists_but_takes_nothing_is_tried_with_one_job(known: Ledger, environment: Environment) -> None:
    """It will not take the others either."""
    listing = answer("200 OK", b'{"status": "success", "data": []}')
    with FaultServer(listing, answer("503 Busy")) as server:
        pushing(known, server.url, timeout_seconds=0.3)
        result = sync(known, environment).once()
        assert {request.split()[1] for request in server.requests} == {b"/api/v1/metrics", b"/metrics/job/a"}
    assert len(result.errors) == 1


def test_one_job_that_is_refused_does_not_stand_in_the_others_way(
    known: Ledger, environment: Environment, pushgateway: Server
) -> None:
    """A label that can't be one is that job's own matter, and is said."""
    pushing(known, pushgateway.url)
    known.register(
        definition("a", destination=Destination(gateway=pushgateway.url, labels={"holdout": "x"})),
        now=1000.0,
        next_expected_at=None,
    )
    result = sync(known, environment).once()
    assert result.pushed == ("b", "c")
    assert "holdout" in result.errors[0]


def test_dead_runs_are_settled_but_not_those_that_the_scheduler_watches(known: Ledger, environment: Environment) -> None:
    """It knows better why they ended."""
    for job in JOBS:
        known.start_run(run_start(f"run-{job}", job), next_expected_at=None)
    with known.lock("run", "b"):
        assert sync(known, environment, busy=frozenset("c")).once().settled == ("a",)
    assert [known.state(job).name for job in JOBS] == ["failed", "running", "running"]


def test_the_environment_may_move_everything_to_another_gateway(known: Ledger, pushgateway: Server) -> None:
    """As it does for a run."""
    result = sync(known, read({"BATCHGAUGE_GATEWAY": pushgateway.url})).once()
    assert result.pushed == JOBS
    assert set(shown(pushgateway)) == set(JOBS)


def test_a_textfile_that_is_gone_is_written_again(known: Ledger, environment: Environment, tmp_path: Path) -> None:
    """Without a gateway."""
    folder = tmp_path / "textfiles"
    folder.mkdir()
    known.register(definition("a", destination=Destination(textfile=str(folder))), now=1000.0, next_expected_at=None)
    assert sync(known, environment).once().pushed == ("a",)
    assert sync(known, environment).once().pushed == ()
    next(folder.iterdir()).unlink()
    assert sync(known, environment).once().pushed == ("a",)
    assert len(list(folder.iterdir())) == 1


def test_a_ledger_that_cannot_be_read_is_an_error_and_no_exception(known: Ledger, environment: Environment) -> None:
    """The thread goes on."""
    known.close()
    for file in known.folder.glob("ledger.db*"):
        file.write_bytes(b"x" * 8192)
    result = sync(known, environment).once()
    assert not result.ok
    assert "ledger" in result.errors[0]


def test_a_defect_costs_one_sync(known: Ledger, environment: Environment) -> None:
    """The thread goes on after it, and says what it was."""

    def defect() -> frozenset[str]:
        raise RuntimeError("a defect")

    known.start_run(run_start("r", "b"), next_expected_at=None)
    assert Sync(known, environment, busy=defect).once().errors == ("unexpected RuntimeError: a defect",)
