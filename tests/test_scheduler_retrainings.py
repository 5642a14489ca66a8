"""Alerts that reach the scheduler: what is rightly asked for is done once, one at a time, and beside the runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from time import time
from typing import Any

import psutil
import pytest

from jobs.retrain.alerts import MessageError
from jobs.scheduler import Daemon, NotReady, Settings, retrainings
from jobs.scheduler.bookkeeping import register
from jobs.scheduler.folder import JobFile
from jobs.scheduler.log import Log
from jobs.spec import load
from monitoring.ledger import Cause, Ledger, RetrainOutcome, RetrainRecord
from monitoring.servers import Server
from pipelines.errors import LedgerError
from pipelines.report import Estimate
from tests.conftest import poll
from tests.reports import finished, holdout, one_run
from tests.scheduling import Scheduler
from tests.test_retrain_alerts import FIRING, MESSAGE
from tests.test_scheduler import alive

RETRAIN = """
[[holdout]]
name = "labelled"
path = "{name}/labelled"
label = "truth"

[thresholds]
accuracy = 0.9

[retrain]
entrypoint = "model.py:train"
"""


class Retrained(Scheduler):
    """Jobs that may be retrained, by `script`; its arguments are the job and the ledger, its input the message."""

    def __init__(self, folder: Path, *, retrain: str = "cat >/dev/null; exit 0", **settings: Any) -> None:
        super().__init__(folder, retrain_command=self.retrain_command, **settings)
        self.retrain = retrain

    def retrain_command(self, file: JobFile) -> Sequence[str]:
        assert file.spec is not None
        return ["/bin/sh", "-c", self.retrain, "sh", file.spec.job.name, self.environment.ledger]

    def breached(self, name: str, *, retrain: str = "") -> Path:
        """A job that can be retrained, whose model was surely below its threshold when it last ran."""
        path = self.write(name, "0 13 * * *")
        path.write_text(path.read_text() + RETRAIN.format(name=name) + retrain)
        return path

    def judge(self, name: str) -> None:
        """Once it is known: a run that found the model surely below its threshold."""
        poll(lambda: name in {job.job for job in self.now.jobs})
        report = replace(holdout(), accuracy=Estimate(0.7, 0.66, 0.74))
        one_run(self.ledger, finished(f"run of {name}", name, holdouts=(report,)), ())


def alert(job: str, **changes: Any) -> bytes:
    """A message about that job."""
    return json.dumps({**MESSAGE, "alerts": [{**FIRING, **changes, "labels": {**FIRING["labels"], "job": job}}]}).encode()


def test_what_an_alert_rightly_asks_for_is_started_once(tmp_path: Path) -> None:
    """With the message as its input; a replay while it is at work adds nothing, and both are answered with the reason."""
    gate, said = tmp_path / "gate", tmp_path / "said"
    scheduler = Retrained(tmp_path, retrain=f"cat > {said}; while [ ! -e {gate} ]; do sleep 0.02; done; echo no need; exit 5")
    scheduler.breached("churn")
    with scheduler:
        scheduler.judge("churn")
        (decision,) = scheduler.daemon.hear(alert("churn"))
        assert (decision.retrain, decision.reason) == (
            True,
            "ModelAccuracyLow on labelled: surely below its threshold on 1 day in a row",
        )
        poll(lambda: scheduler.now.retraining and scheduler.now.retraining[0].pid)
        scheduler.daemon.hear(alert("churn"))
        poll(lambda: scheduler.now.alert_messages == 2)
        assert [one.job for one in scheduler.now.retraining] == ["churn"]
        gate.touch()
        (ended,) = scheduler.until("retrained", "churn")
        poll(lambda: not scheduler.now.retraining)
    assert said.read_bytes() == alert("churn")
    assert (ended["outcome"], ended["exit_code"]) == ("not needed", 5)
    assert ended["reason"].startswith("no need (exit code 5; see ")
    assert len(scheduler.events("retraining")) == scheduler.daemon.figures().retrains_started == 1
    assert [event["retrain"] for event in scheduler.events("alert")] == ["true", "true"]


def test_retrainings_wait_for_each_other_and_not_for_runs(tmp_path: Path) -> None:
    """One at a time, in the order in which they were asked for, while a long run has the only place."""
    gate, order = tmp_path / "gate", tmp_path / "order"
    waits = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    scheduler = Retrained(tmp_path, script=waits, retrain=f"echo $1 >> {order}; {waits}", max_running=1)
    scheduler.known_since("long", hours=0.5)
    for name in ("b", "a", "c"):
        scheduler.breached(name)
    with scheduler:
        scheduler.until("started", "long")
        for name in ("b", "a", "c"):
            scheduler.judge(name)
            scheduler.daemon.hear(alert(name))
        poll(lambda: [one.job for one in scheduler.now.retraining] == ["b", "a", "c"])
        poll(order.exists)
        assert [one.pid is None for one in scheduler.now.retraining] == [False, True, True]
        figures = scheduler.daemon.figures()
        assert (figures.retrains_running, figures.retrains_waiting, figures.running) == (1, 2, 1)
        gate.touch()
        scheduler.until("retrained", count=3)
    assert order.read_text().split() == ["b", "a", "c"]


def test_what_is_not_rightly_asked_for_is_answered_and_logged(tmp_path: Path) -> None:
    """An unknown job, a resolved alert, a job that can't be retrained, one that was never judged."""
    scheduler = Retrained(tmp_path)
    scheduler.write("plain")
    scheduler.breached("fresh")
    with scheduler:
        poll(lambda: len(scheduler.now.jobs) == 2)
        for message, words in (
            (alert("x" * 900), "no job file here is of a job 'xxx"),
            (alert("plain"), "no [retrain] section"),
            (alert("fresh", status="resolved"), "no alert is firing"),
            (alert("fresh"), "surely below its threshold on 0 days in a row"),
        ):
            (decision,) = scheduler.daemon.hear(message)
            assert not decision.retrain
            assert words in decision.reason
        with pytest.raises(MessageError, match="not a webhook message"):
            scheduler.daemon.hear(b"{}")
        events = scheduler.until("alert", count=4)
        assert scheduler.now.retraining == ()
    assert all(event["retrain"] == "false" for event in events)
    assert len(events[0]["job"]) == 201


RECORDS = """
import sys
from tests.test_scheduler_retrainings import RetrainOutcome, record
record(sys.argv[1], sys.argv[2], {outcome} and RetrainOutcome({outcome}))
"""


def begun(job: str) -> RetrainRecord:
    """A retraining in progress."""
    return RetrainRecord(f"of {job}", job, Cause.ALERT, date(2026, 11, 22), "/m", time())


def record(job: str, location: str, outcome: RetrainOutcome | None) -> None:
    """What `batchgauge retrain` leaves in the ledger; without an outcome it dies in the middle."""
    with Ledger.open(location) as ledger, ledger.lock("retrain", job):
        started = begun(job)
        ledger.start_retrain(started)
        if outcome is None:
            os.kill(os.getpid(), signal.SIGKILL)
        ended = replace(started, outcome=outcome, reason="better\nin figures", finished_at=time())
        ledger.finish_retrain(ended)


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("promoted", ("promoted", "better", 0)), (None, ("stopped", "the process died before", -signal.SIGKILL))],
)
def test_how_it_ended_is_what_the_ledger_says(tmp_path: Path, outcome: str | None, words: tuple[str, str, int]) -> None:
    """Also of one that was killed: the scheduler settles it, and it is counted."""
    python = RECORDS.format(outcome=repr(outcome))
    scheduler = Retrained(tmp_path, retrain=f"exec {sys.executable} -c '{python.replace(chr(39), chr(34))}' $1 $2")
    scheduler.breached("churn")
    with scheduler:
        scheduler.judge("churn")
        scheduler.daemon.hear(alert("churn"))
        (ended,) = scheduler.until("retrained")
    assert (ended["outcome"], ended["exit_code"]) == (words[0], words[2])
    assert ended["reason"].startswith(words[1])
    assert scheduler.ledger.state("churn").counters["model_retrains_total", (words[0],)] == 1


def test_what_came_of_it_is_pushed_at_once(tmp_path: Path, pushgateway: Server) -> None:
    """The retraining's own push may have failed; the alert that it ends should not wait for the next sync."""
    python = RECORDS.format(outcome=repr("promoted"))
    scheduler = Retrained(
        tmp_path,
        retrain=f"exec {sys.executable} -c '{python.replace(chr(39), chr(34))}' $1 $2",
        sync_every_seconds=3600.0,
    ).pushing_to(pushgateway.url)
    scheduler.breached("churn")
    with scheduler:
        scheduler.judge("churn")
        scheduler.daemon.hear(alert("churn"))
        scheduler.until("retrained")
        poll(lambda: not scheduler.ledger.state("churn").owed)


def test_one_that_outlived_its_scheduler_is_waited_for(tmp_path: Path) -> None:
    """It is nobody's child any more, but its lock tells of it: no second one beside it, and its end is noticed."""
    retrained, gate = tmp_path / "retrained", tmp_path / "gate"
    scheduler = Retrained(tmp_path, retrain=f"echo $1 >> {retrained}")
    for name in ("first", "second"):
        register(scheduler.ledger, load(scheduler.breached(name)), scheduler.environment, now=scheduler.clock())
    code = f"""
import sys, time
from pathlib import Path
from monitoring.ledger import Ledger
from tests.test_scheduler_retrainings import begun
with Ledger.open(sys.argv[1]) as ledger, ledger.lock("retrain", "first"):
    ledger.start_retrain(begun("first"))
    while not Path({str(gate)!r}).exists():
        time.sleep(0.01)
"""
    with subprocess.Popen([sys.executable, "-c", code, scheduler.environment.ledger]) as orphan:
        poll(lambda: scheduler.ledger.unfinished_retrains("first"))
        with scheduler:
            scheduler.until("adopted", "first")
            scheduler.judge("second")
            scheduler.daemon.hear(alert("second"))
            poll(lambda: [(one.job, one.waits) for one in scheduler.now.retraining] == [("first", False), ("second", True)])
            assert not retrained.exists()
            orphan.kill()
            (ended, _) = scheduler.until("retrained", count=2)
        gate.touch()
    assert (ended["job"], ended["outcome"]) == ("first", "stopped")
    assert retrained.read_text().split() == ["second"]


def test_an_alert_that_comes_too_early_or_too_late_is_to_come_again(tmp_path: Path) -> None:
    """While the job files aren't read yet nobody knows the job, and while it stops nothing is started: neither is an answer."""
    gate = tmp_path / "gate"
    scheduler = Retrained(tmp_path, script=f"trap '' TERM; while [ ! -e {gate} ]; do sleep 0.02; done")
    scheduler.breached("churn")
    scheduler.known_since("long", hours=0.5)
    settings = Settings(paths=(tmp_path / "jobs",), environment=scheduler.environment, **scheduler.settings)
    early = Daemon(settings, scheduler.ledger, Log(scheduler.stream, as_json=True))
    with pytest.raises(NotReady, match="starting or stopping"):
        early.hear(alert("churn"))
    with scheduler:
        scheduler.judge("churn")
        scheduler.until("started", "long")
        scheduler.daemon.stop("test")
        poll(lambda: not scheduler.now.ready)
        with pytest.raises(NotReady):
            scheduler.daemon.hear(alert("churn"))
        gate.touch()
    assert scheduler.events("alert") == []


def test_an_end_that_the_ledger_cannot_take_is_taken_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it counts as in progress: nothing is started beside it, and nothing is lost."""
    refusals, gate = iter([True] * 3), tmp_path / "gate"

    def unwilling(_ledger: Ledger, job: str) -> None:
        if job == "first" and next(refusals, False):
            raise LedgerError("ledger x: is locked")

    monkeypatch.setattr(retrainings, "settle_retrains", unwilling)
    scheduler = Retrained(tmp_path, retrain=f"[ $1 = first ] && exit 0; while [ ! -e {gate} ]; do sleep 0.02; done")
    names = ("first", "second", "third")
    for name in names:
        scheduler.breached(name)
    with scheduler:
        for name in names:
            scheduler.judge(name)
            scheduler.daemon.hear(alert(name))
        scheduler.until("retraining", "second")
        poll(lambda: [(one.job, one.waits) for one in scheduler.now.retraining] == [("second", False), ("third", True)])
        assert len(scheduler.events("retrained", "first")) == 1
        gate.touch()
        scheduler.until("retrained", count=3)


def test_one_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """It enforces `retrain.timeout` itself; one that doesn't even do that is killed, and the next one has its turn."""
    pids = tmp_path / "pids"
    hangs = f"trap '' TERM; (while :; do sleep 1; done) & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait; sleep 60"
    scheduler = Retrained(tmp_path, retrain=f"[ $1 = second ] && exit 0; {hangs}")
    scheduler.breached("first", retrain='timeout = "1s"\n')
    scheduler.breached("second")
    with scheduler:
        for name in ("first", "second"):
            scheduler.judge(name)
            scheduler.daemon.hear(alert(name))
        (ended, _) = scheduler.until("retrained", count=2)
    assert scheduler.events("stopping", "first")
    assert ended["reason"].startswith("timeout: it took longer than retrain.timeout (1 s) (exit code -9; ")
    poll(lambda: not any(map(alive, map(int, pids.read_text().split()))))


def test_stopping_asks_it_to_end_and_starts_no_other(tmp_path: Path) -> None:
    """Alertmanager repeats what it has asked for, so what waits need not be kept."""
    begun = tmp_path / "begun"
    scheduler = Retrained(
        tmp_path, retrain=f"trap 'echo gave up; exit 1' TERM; echo $1 >> {begun}; while :; do sleep 0.02; done"
    )
    for name in ("first", "second"):
        scheduler.breached(name)
    with scheduler:
        for name in ("first", "second"):
            scheduler.judge(name)
            scheduler.daemon.hear(alert(name))
        poll(begun.exists)
        (pid,) = poll(lambda: [one.pid for one in scheduler.now.retraining if one.pid])
    assert begun.read_text().split() == ["first"]
    assert not psutil.pid_exists(pid)
    (ended,) = scheduler.events("retrained")
    assert "the scheduler was stopped (test)" in ended["reason"]


def test_a_process_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """Said once; the message isn't lost."""
    program = tmp_path / "program"
    scheduler = Scheduler(tmp_path, retrain_command=lambda _: [str(program)])
    retrained = Retrained(tmp_path)
    retrained.breached("churn")
    with scheduler:
        Retrained.judge(scheduler, "churn")  # type: ignore[arg-type]  # it needs no more of it
        scheduler.daemon.hear(alert("churn"))
        scheduler.until("not started")
        poll(lambda: [one.pid for one in scheduler.now.retraining] == [None])
        program.write_text("#!/bin/sh\nexit 0\n")
        program.chmod(0o755)
        scheduler.until("retrained")
    assert len(scheduler.events("not started")) == 1


def test_a_job_whose_section_is_gone_is_not_retrained(tmp_path: Path) -> None:
    """What waits is judged by the file as it is when its turn comes."""
    gate = tmp_path / "gate"
    scheduler = Retrained(tmp_path, retrain=f"while [ ! -e {gate} ]; do sleep 0.02; done")
    for name in ("first", "second"):
        scheduler.breached(name)
    with scheduler:
        for name in ("first", "second"):
            scheduler.judge(name)
            scheduler.daemon.hear(alert(name))
        poll(lambda: len(scheduler.now.retraining) == 2)
        scheduler.write("second", "0 14 * * *")
        scheduler.until("scheduled", "second", count=2)
        gate.touch()
        scheduler.until("retrained", "first")
        poll(lambda: not scheduler.now.retraining)
    assert not scheduler.events("retraining", "second")
