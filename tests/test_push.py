"""Delivering: what was sent, what is owed, and never in the way of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitoring import textfile
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from monitoring.push import Pusher, deliver, forget, pause
from monitoring.servers import Server
from monitoring.state import Destination
from pipelines.errors import LedgerError, PushError
from tests.conftest import poll
from tests.faults.server import FaultServer, answer, hang
from tests.queries import scraped
from tests.reports import JOB, definition, finished, one_run, part, run_start


def register(ledger: Ledger, destination: Destination, job: str = JOB) -> None:
    ledger.register(definition(job, destination=destination), now=1.0, next_expected_at=None)


def test_counters_rise_across_runs_in_prometheus(ledger: Ledger, pushgateway: Server, prometheus: Server) -> None:
    """Zeros first, then every run on top of the last: the raw counter accounts for every row."""
    register(ledger, Destination(gateway=pushgateway.url, labels={"env": "prod"}))
    requests = 'inference_requests_total{job="digits",env="prod"}'
    for number, total in enumerate(("0", "1000", "2500")):
        if number:
            report = part(f"{number}.parquet", rows=500 + 500 * number)
            one_run(ledger, finished(f"run-{number}", parts=(report,)), (report,))
        delivery = deliver(ledger, JOB, clock=lambda: 777.5)
        assert delivery.destinations == (pushgateway.url,)
        assert delivery.sequence == ledger.state(JOB).sequence
        poll(lambda expected=total: scraped(prometheus, requests) == {(): expected})  # type: ignore[misc]  # a default binds it
    assert scraped(prometheus, 'batch_state_pushed_timestamp_seconds{job="digits"}') == {(): "777.5"}
    state = ledger.state(JOB)
    assert (state.owed, state.pushed_at, state.push_error) == (False, 777.5, None)


def test_a_gateway_that_is_down_leaves_the_state_owed(ledger: Ledger, pushgateway: Server) -> None:
    """The ledger says why; the next delivery carries everything."""
    with FaultServer(answer("503 Busy")) as down:
        register(ledger, Destination(gateway=down.url, timeout_seconds=0.3))
        with pytest.raises(PushError, match=f"job 'digits': {down.url}: HTTP 503") as caught:
            deliver(ledger, JOB)
    assert not caught.value.permanent
    state = ledger.state(JOB)
    assert state.owed
    assert state.push_error == str(caught.value)
    register(ledger, Destination(gateway=pushgateway.url))
    deliver(ledger, JOB)
    assert not ledger.state(JOB).owed
    assert ledger.state(JOB).push_error is None


def test_without_a_destination_there_is_nowhere_to_push(ledger: Ledger) -> None:
    """Said as such, not as a success; nothing is owed."""
    register(ledger, Destination())
    delivery = deliver(ledger, JOB)
    assert delivery.destinations == ()
    state = ledger.state(JOB)
    assert (state.owed, state.pushed_at) == (False, None)


def test_the_textfile_is_written_even_when_the_gateway_is_down(ledger: Ledger, tmp_path: Path) -> None:
    """One destination's trouble isn't the other's; the state is owed until both have it."""
    with FaultServer(answer("400 Bad", b"no")) as refusing:
        register(ledger, Destination(gateway=refusing.url, textfile=str(tmp_path), labels={"env": "prod"}))
        with pytest.raises(PushError, match="HTTP 400: no") as caught:
            deliver(ledger, JOB)
    assert caught.value.permanent
    assert 'batch_state_sequence{job="digits",env="prod"} 1' in textfile.path(tmp_path, JOB).read_text()
    assert ledger.state(JOB).owed


def test_a_missing_textfile_folder_is_named(ledger: Ledger, tmp_path: Path) -> None:
    """And the state stays owed."""
    register(ledger, Destination(textfile=str(tmp_path / "nowhere")))
    with pytest.raises(PushError, match=r"nowhere/batchgauge_digits\.prom: No such file"):
        deliver(ledger, JOB)
    assert ledger.state(JOB).owed


@pytest.mark.parametrize("labels", [{"job": "x"}, {"holdout": "x"}, {"a-b": "x"}])
def test_a_label_that_would_overwrite_another_is_refused(ledger: Ledger, labels: dict[str, str]) -> None:
    """Before anything is sent."""
    register(ledger, Destination(gateway="http://127.0.0.1:1", labels=labels))
    with pytest.raises(PushError, match=r"push\.labels") as caught:
        deliver(ledger, JOB)
    assert caught.value.permanent


def test_two_deliveries_go_one_after_the_other(ledger: Ledger) -> None:
    """An older state can't overtake a newer one: who doesn't get the lock in time, owes."""
    register(ledger, Destination(gateway="http://127.0.0.1:1"))
    with ledger.lock("push", JOB), pytest.raises(PushError, match=r"a push is in progress.*stays owed") as caught:
        deliver(ledger, JOB, deadline_seconds=0.1)
    assert not caught.value.permanent


def test_a_forgotten_job_is_gone_from_gateway_folder_and_ledger(ledger: Ledger, pushgateway: Server, tmp_path: Path) -> None:
    """Only its own group."""
    destination = Destination(gateway=pushgateway.url, textfile=str(tmp_path / "text"), labels={"env": "prod"})
    (tmp_path / "text").mkdir()
    for job in (JOB, "other"):
        register(ledger, destination, job)
        deliver(ledger, job)
    forget(ledger, JOB)
    assert [group.labels for group in Gateway(pushgateway.url).groups()] == [{"job": "other", "env": "prod"}]
    assert [file.name for file in (tmp_path / "text").iterdir()] == ["batchgauge_other.prom"]


def test_changed_labels_leave_no_second_group_behind(ledger: Ledger, pushgateway: Server) -> None:
    """Or every sum over the job would count it twice."""
    for labels in ({"env": "dev"}, {"env": "prod", "team": "x"}):
        register(ledger, Destination(gateway=pushgateway.url, labels=labels))
        deliver(ledger, JOB)
    assert [group.labels for group in Gateway(pushgateway.url).groups()] == [{"job": JOB, "env": "prod", "team": "x"}]


def test_an_unknown_job_is_a_ledger_error(ledger: Ledger) -> None:
    """There is no state to push."""
    with pytest.raises(LedgerError, match="'nobody' is not in the ledger"):
        deliver(ledger, "nobody")


def test_a_run_in_progress_is_pushed_from_the_side(ledger: Ledger, pushgateway: Server, prometheus: Server) -> None:
    """Rows so far are seen before it ends."""
    register(ledger, Destination(gateway=pushgateway.url))
    ledger.start_run(run_start(), next_expected_at=None)
    pusher = Pusher(ledger.location, JOB, every_seconds=0.05)
    pusher.start()
    ledger.add_parts("run-1", JOB, [part(rows=123)])
    poll(lambda: scraped(prometheus, 'batch_run_rows{job="digits",disposition="scored"}') == {(): "123"})
    pusher.stop()
    assert pusher.pushes > 0
    assert pusher.last_error is None


def test_a_gateway_that_hangs_holds_nobody_up(ledger: Ledger) -> None:
    """Parts are added meanwhile, and stopping doesn't wait for the gateway."""
    with FaultServer(hang) as server:
        register(ledger, Destination(gateway=server.url, timeout_seconds=4.0))
        ledger.start_run(run_start(), next_expected_at=None)
        pusher = Pusher(ledger.location, JOB, every_seconds=0.01)
        pusher.start()
        poll(lambda: server.requests)
        for number in range(20):
            ledger.add_parts("run-1", JOB, [part(f"{number}.parquet")])
        pusher.stop(wait_seconds=0.1)
        assert pusher._thread.is_alive()  # the push still hangs, and nobody waits for it
        assert len(ledger.committed_parts(JOB, "/scored")) == 20
        poll(lambda: not pusher._thread.is_alive())
    assert "no whole answer" in (pusher.last_error or "")


@pytest.mark.parametrize(
    ("location", "words"),
    [("mysql://h/d", "only SQLite and PostgreSQL"), ("/proc/nowhere/ledger.db", "its folder can't be made")],
)
def test_a_pusher_that_cannot_work_says_so_and_does_not_raise(location: str, words: str) -> None:
    """Its error is for the run's summary."""
    pusher = Pusher(location, JOB, every_seconds=0.01)
    pusher.start()
    poll(lambda: pusher.last_error)
    pusher.stop()
    assert words in (pusher.last_error or "")


def test_a_pusher_goes_on_after_a_failure(ledger: Ledger) -> None:
    """And forgets the error once a push arrived."""
    with FaultServer(answer("400 Bad", b"not yet"), answer("200 OK")) as server:
        register(ledger, Destination(gateway=server.url))
        pusher = Pusher(ledger.location, JOB, every_seconds=0.01)
        pusher.start()
        poll(lambda: pusher.pushes)
        pusher.stop()
    assert pusher.last_error is None


def test_a_pusher_waits_longer_after_each_failure() -> None:
    """So that a gateway that can't keep up gets the time to; never less than was asked for, never much more than a minute."""
    for every in (1.0, 15.0):
        assert pause(every, 0) == every
        longest = [pause(every, failures, lambda _low, high: high) for failures in range(1, 2_000)]
        assert longest[:2] == [2 * every, 4 * every]
        assert longest == sorted(longest)
        assert longest[-1] == 60.0
        assert all(pause(every, failures, lambda low, _high: low) == every for failures in range(20))
    assert pause(600.0, 5) == 600.0


def test_a_pusher_that_never_started_can_be_stopped(ledger: Ledger) -> None:
    """Whatever went wrong before, the end of a run calls `stop`."""
    Pusher(ledger.location, JOB, every_seconds=1.0).stop()
