"""Groups that no job owns any more: those that are ours go, all others stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from monitoring.exposition import render
from monitoring.gateway import Credentials, Gateway
from monitoring.ledger import Ledger
from monitoring.leftovers import Fate, Leftover, collect
from monitoring.push import deliver
from monitoring.servers import Server
from monitoring.state import Destination, PushedGroup
from pipelines.errors import PushError
from tests.faults.server import FaultServer, answer
from tests.reports import JOB, definition
from tests.test_cli import Command
from tests.tiny_job import TinyJob


@pytest.fixture
def ledger_location(new_location: Callable[[], str]) -> str:
    """Every test of this module, on every database."""
    return new_location()


def push(ledger: Ledger, url: str | None, job: str = JOB, *, at: float = 5.0, **labels: str) -> None:
    destination = Destination(gateway=url, labels=labels)
    ledger.register(definition(job, destination=destination), now=1.0, next_expected_at=None)
    deliver(ledger, job, clock=lambda: at)


def groups(server: Server) -> list[str]:
    return sorted("/".join(group.labels.values()) for group in Gateway(server.url).groups())


def fates(found: tuple[Leftover, ...]) -> dict[str, Fate]:
    return {"/".join(value for _, value in sorted(leftover.group.labels.items())): leftover.fate for leftover in found}


@pytest.fixture
def other_ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "other" / "ledger.db") as opened:
        yield opened


def test_only_what_nobody_owns_is_deleted(ledger: Ledger, other_ledger: Ledger, pushgateway: Server) -> None:
    """A forgotten job's group goes; another job's, another ledger's and a stranger's stay."""
    for job in ("forgotten", "kept"):
        push(ledger, pushgateway.url, job)
    push(other_ledger, pushgateway.url, "theirs")
    Gateway(pushgateway.url).put({"job": "strange"}, b"strange_metric 1\n")
    ledger.forget("forgotten")
    assert fates(collect(ledger, dry_run=True)) == {"forgotten": Fate.DELETED}
    assert groups(pushgateway) == ["forgotten", "kept", "strange", "theirs"]
    assert fates(collect(ledger)) == {"forgotten": Fate.DELETED}
    assert groups(pushgateway) == ["kept", "strange", "theirs"]
    assert collect(ledger) == ()
    assert [record.job for record in ledger.pushed_groups()] == ["kept"]


def test_a_gateway_that_was_left_is_cleaned_up(ledger: Ledger, pushgateway: Server) -> None:
    """The job goes on elsewhere, or nowhere; and labels that changed while the old group could not be deleted."""
    push(ledger, pushgateway.url, "moved", env="a")
    push(ledger, pushgateway.url, "silent")
    with FaultServer(answer("200 OK")) as elsewhere:
        push(ledger, elsewhere.url, "moved", env="a")
    ledger.register(definition("silent", destination=Destination()), now=2.0, next_expected_at=None)
    assert fates(collect(ledger)) == {"a/moved": Fate.DELETED, "silent": Fate.DELETED}
    assert groups(pushgateway) == []
    assert ledger.state("silent").pushed_group is None


def test_a_state_stays_where_it_is_until_it_arrives_elsewhere(ledger: Ledger, pushgateway: Server) -> None:
    """Or the job would be seen nowhere."""
    push(ledger, pushgateway.url)
    ledger.register(
        definition(destination=Destination("http://127.0.0.1:1", timeout_seconds=0.1)), now=2.0, next_expected_at=None
    )
    with pytest.raises(PushError):
        deliver(ledger, JOB)
    found = collect(ledger)
    assert found == ()
    assert groups(pushgateway) == [JOB]


def test_a_push_whose_answer_was_lost_is_found_again(ledger: Ledger, pushgateway: Server) -> None:
    """It was noted before it was sent, and shows when: between the last that surely arrived and the last that was tried."""
    push(ledger, pushgateway.url, at=5.0)
    record = ledger.pushed_groups()[0]
    state = ledger.state(JOB)
    ledger.note_push(JOB, record.group, ca_file=None, at=7.0)
    Gateway(pushgateway.url).put(record.group.labels, render(state, pushed_at=7.0))
    ledger.note_push(JOB, record.group, ca_file=None, at=9.0)
    ledger.forget(JOB)
    assert fates(collect(ledger)) == {JOB: Fate.DELETED}
    assert groups(pushgateway) == []


def test_the_first_push_is_found_again_whose_answer_was_lost(ledger: Ledger, pushgateway: Server) -> None:
    """Though others were tried after it, which did not arrive."""
    destination = Destination(gateway=pushgateway.url)
    ledger.register(definition(destination=destination), now=1.0, next_expected_at=None)
    labels = {"job": JOB}
    noted = PushedGroup(Gateway(pushgateway.url).url, labels)
    ledger.note_push(JOB, noted, ca_file=None, at=5.0)
    Gateway(pushgateway.url).put(labels, render(ledger.state(JOB), pushed_at=5.0))
    ledger.note_push(JOB, noted, ca_file=None, at=7.0)
    ledger.forget(JOB)
    assert fates(collect(ledger)) == {JOB: Fate.DELETED}
    assert groups(pushgateway) == []


def test_a_group_that_another_ledger_has_taken_is_left_alone(ledger: Ledger, other_ledger: Ledger, pushgateway: Server) -> None:
    """Same gateway, same job, same labels: what it shows is not what we have sent."""
    push(ledger, pushgateway.url, at=5.0)
    ledger.forget(JOB)
    push(other_ledger, pushgateway.url, at=6.0)
    assert fates(collect(ledger)) == {JOB: Fate.REPLACED}
    assert groups(pushgateway) == [JOB]
    assert ledger.pushed_groups() == ()


def test_a_group_with_somebody_elses_metrics_is_left_alone(ledger: Ledger, pushgateway: Server) -> None:
    """They were added to ours: deleting it would delete them; the ledger goes on knowing it."""
    push(ledger, pushgateway.url)
    httpx.post(f"{pushgateway.url}/metrics/job/{JOB}", content=b"strange_metric 1\n").raise_for_status()
    ledger.forget(JOB)
    for _ in range(2):
        assert fates(collect(ledger)) == {JOB: Fate.SHARED}
    assert groups(pushgateway) == [JOB]


def test_a_group_that_is_gone_is_no_longer_looked_for(ledger: Ledger, pushgateway: Server) -> None:
    """Somebody has deleted it, or the gateway has lost its memory."""
    push(ledger, pushgateway.url)
    ledger.forget(JOB)
    Gateway(pushgateway.url).delete({"job": JOB})
    assert fates(collect(ledger)) == {JOB: Fate.ABSENT}
    assert ledger.pushed_groups() == ()


def test_a_dead_gateway_fails_its_own_groups_only(ledger: Ledger, pushgateway: Server) -> None:
    """The ledger goes on knowing them; it was asked once."""
    with FaultServer(answer("200 OK")) as dead:
        for job in ("a", "b"):
            push(ledger, dead.url, job)
    push(ledger, pushgateway.url, "c")
    for job in "abc":
        ledger.forget(job)
    found = collect(ledger, credentials=Credentials(bearer="s3cret"))
    assert fates(found) == {"a": Fate.FAILED, "b": Fate.FAILED, "c": Fate.DELETED}
    assert len({leftover.error for leftover in found if leftover.error}) == 1
    assert [record.job for record in ledger.pushed_groups()] == ["a", "b"]


def test_a_push_in_progress_is_not_overtaken(ledger: Ledger, pushgateway: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pushes the job may be about to take the group again."""
    monkeypatch.setattr("monitoring.leftovers._LOCK_SECONDS", 0.0)
    push(ledger, pushgateway.url)
    ledger.forget(JOB)
    with ledger.lock("push", JOB):
        (found,) = collect(ledger)
    assert (found.fate, groups(pushgateway)) == (Fate.FAILED, [JOB])
    assert "a push is in progress" in str(found.error)


def test_the_command(tmp_path: Path, pushgateway: Server) -> None:
    """What it deletes is on stdout; a gateway that is down is one error and exit code 1, and nothing is forgotten."""
    job = TinyJob(tmp_path / "job")
    batchgauge = Command(tmp_path, BATCHGAUGE_GATEWAY=pushgateway.url)
    assert batchgauge("register", job.spec).returncode == 0
    assert batchgauge("forget", "tiny", "--yes", "--offline").returncode == 0
    dry = batchgauge("gc", "--dry-run")
    assert (dry.returncode, groups(pushgateway)) == (0, ["tiny"])
    assert dry.stdout == f"{pushgateway.url}: job='tiny': deleted (nothing was changed: a dry run)\n"
    (document,) = batchgauge.json("gc")
    assert document == {"gateway": pushgateway.url, "labels": {"job": "tiny"}, "fate": "deleted", "error": None}
    assert groups(pushgateway) == []
    assert batchgauge.json("gc") == []
    with FaultServer(answer("200 OK")) as dead:
        gone = batchgauge.environment["BATCHGAUGE_GATEWAY"] = dead.url
        assert batchgauge("register", job.spec).returncode == 0
    assert batchgauge("forget", "tiny", "--yes", "--offline").returncode == 0
    done = batchgauge("gc")
    assert done.returncode == 1
    assert done.stderr.count("is the gateway up?") == 1
    assert f"if it is gone for good: batchgauge gc --abandon {gone}" in done.stderr
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        assert len(ledger.pushed_groups()) == 1
        elsewhere = batchgauge("gc", "--abandon", "http://127.0.0.1:9")
        assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
        assert "http://127.0.0.1:9: no group there is left over" in elsewhere.stderr
        dry = batchgauge("gc", "--abandon", f"{gone}/", "--dry-run")
        assert (dry.returncode, len(ledger.pushed_groups())) == (0, 1)
        (document,) = batchgauge.json("gc", "--abandon", gone)
        assert document["fate"] == "abandoned"
        assert ledger.pushed_groups() == ()
