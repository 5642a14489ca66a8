"""The scheduler: what is due runs once, what can't be is counted, and nothing that a job does ends it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from time import monotonic

import psutil
import pytest

from jobs.scheduler import Daemon, Settings, settings
from jobs.scheduler.bookkeeping import orphan
from jobs.scheduler.catch_up import missed_report
from jobs.scheduler.log import Log
from jobs.scheduler.processes import StartedChild
from monitoring.gateway import Gateway
from monitoring.ledger import Hold, sqlite
from monitoring.servers import Server
from pipelines.errors import LedgerError
from pipelines.report import Outcome, RunReport, Trigger
from tests.conftest import poll
from tests.reports import finished, run_start
from tests.scheduling import NOON, Scheduler, recording_run


@pytest.fixture
def scheduler(tmp_path: Path) -> Scheduler:
    return Scheduler(tmp_path)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def at(hour: int, minute: int = 0) -> float:
    return NOON.replace(hour=hour, minute=minute, second=0).timestamp()


def skipped() -> RunReport:
    return replace(finished("by-hand", "churn"), outcome=Outcome.SKIPPED)


def recording(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, behaviour: str = "exit") -> Scheduler:
    """With children that record their runs in the same ledger."""
    monkeypatch.setenv("BATCHGAUGE_LEDGER", scheduler.environment.ledger)
    scheduler.settings["command"] = recording_run(behaviour)
    return scheduler


def test_what_is_due_is_run_once_with_its_date(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noon's run at half a minute past noon; a later look finds it done, and so does the next scheduler."""
    scheduler.known_since("churn", hours=0.5)
    with recording(scheduler, monkeypatch):
        (started,) = scheduler.until("started")
        (ended,) = scheduler.until("ended")
        assert started["due_at"] == at(12)
        assert 30 <= started["lag_seconds"] < 60
        assert (ended["outcome"], ended["exit_code"]) == ("success", 0)
        (job,) = scheduler.now.jobs
        assert (job.job, job.next_due_at, job.error) == ("churn", at(13), None)
    with scheduler:
        scheduler.until("scheduled", count=2)
        scheduler.daemon.reload()
        poll(lambda: scheduler.now.jobs)
    assert len(scheduler.events("started")) == 1
    assert [run.outcome for run in scheduler.runs("churn")] == ["success"]
    assert scheduler.ledger.runs("churn")[0].logical_date == NOON.date()
    assert scheduler.ledger.state("churn").next_expected_at == at(13)


def test_nothing_is_started_while_another_scheduler_may_have_taken_over(scheduler: Scheduler) -> None:
    """It is said, and what is due waits until the place is surely ours."""
    scheduler.place = Hold.UNSURE
    scheduler.known_since("churn", hours=0.5)
    with scheduler:
        scheduler.until("ledger trouble")
        assert not scheduler.events("started")
        scheduler.place = Hold.KEPT
        scheduler.until("ended", "churn")
        scheduler.until("ledger well")
    assert len(scheduler.events("started", "churn")) == 1


def test_a_scheduler_that_was_replaced_starts_nothing_and_ends(scheduler: Scheduler) -> None:
    """Whatever is due: that is the other one's."""
    scheduler.known_since("churn", hours=0.5)
    daemon = Daemon(
        Settings(paths=(scheduler.folder / "jobs",), environment=scheduler.environment, **scheduler.settings),
        scheduler.ledger,
        Log(scheduler.stream, as_json=True, clock=scheduler.clock),
        clock=scheduler.clock,
    )
    with pytest.raises(LedgerError, match="another scheduler has taken over"):
        daemon.run(place=lambda: Hold.LOST)
    assert not scheduler.events("started")


def test_what_was_missed_while_nobody_scheduled_is_counted_once(scheduler: Scheduler) -> None:
    """Of four due times the last is within grace and runs; restarts count none of them again, and leave the alert alone."""
    scheduler.known_since("churn", hours=3.5)
    for _ in range(3):
        with scheduler:
            scheduler.until("ended")
    runs = scheduler.runs("churn")
    assert [run[:2] for run in runs[:3]] == [("missed", "09:00"), ("missed", "10:00"), ("missed", "11:00")]
    assert runs[0].reason == "not started in time: no scheduler was running"
    assert len(scheduler.events("started")) == 1
    assert scheduler.counted("churn", "missed") == 3
    assert scheduler.events("missed")[0]["count"] == 3


def test_a_missed_run_stays_expected_until_one_starts(scheduler: Scheduler) -> None:
    """Out of grace, so nothing starts: the alert on the missed run has something to fire on."""
    scheduler.known_since("churn", "30 9 * * *", 'grace = "10m"', hours=24)
    expected = scheduler.ledger.state("churn").next_expected_at
    with scheduler:
        (missed,) = poll(lambda: scheduler.now.missed)
        assert (missed.job, missed.due_at) == ("churn", at(9, 30))
    assert scheduler.ledger.state("churn").next_expected_at == expected == at(9, 30)
    assert not scheduler.events("started")


def test_a_time_that_a_hand_has_run_is_not_run_again(scheduler: Scheduler) -> None:
    """Whoever ran it, the ledger knows."""
    scheduler.known_since("churn", hours=0.5)
    scheduler.ledger.skip_run(skipped(), due_at=at(12))
    with scheduler:
        scheduler.until("scheduled")
        poll(lambda: scheduler.now.jobs)
    assert not scheduler.events("started")
    assert [run.outcome for run in scheduler.runs("churn")] == ["skipped"]


def test_runs_wait_for_a_free_place_in_the_order_in_which_they_were_due(tmp_path: Path) -> None:
    """At most two at once; the queue is there to be seen."""
    gate, order = tmp_path / "gate", tmp_path / "order"
    script = f"echo $1 >> {order}; while [ ! -e {gate} ]; do sleep 0.02; done"
    scheduler = Scheduler(tmp_path, script=script, max_running=2)
    for minute, name in enumerate(("d", "c", "b", "a")):
        scheduler.known_since(name, f"{50 + minute} 11 * * *", hours=12)
    with scheduler:
        poll(lambda: len(scheduler.now.running) == 2 and len(scheduler.now.waiting) == 2)
        assert {run.job for run in scheduler.now.running} == {"d", "c"}
        assert [entry.job for entry in scheduler.now.waiting] == ["b", "a"]
        assert len(scheduler.until("waiting", count=2)) == 2
        poll(lambda: len(lines(order)) == 2)
        gate.touch()
        scheduler.until("ended", count=4)
    assert lines(order)[2:] == ["b", "a"]
    assert scheduler.now.lags.counts[-1] == 0


def test_one_instance_of_a_job_and_the_latest_time_waits_for_it(tmp_path: Path) -> None:
    """Two more times come while it runs: the later is run after it, the earlier is missed."""
    gate, order = tmp_path / "gate", tmp_path / "order"
    scheduler = Scheduler(tmp_path, script=f"echo $3 >> {order}; while [ ! -e {gate} ]; do sleep 0.02; done")
    scheduler.known_since("churn", "* * * * *", hours=0.01)
    with scheduler:
        scheduler.until("started")
        first = scheduler.now.running[0].due_at
        # The script tells the ledger nothing, so the account is moved as a real run would have.
        scheduler.ledger.skip_run(skipped(), due_at=first)
        scheduler.clock.set_by(minutes=2)
        poll(lambda: any(entry.due_at == first + 120 for entry in scheduler.now.waiting))
        assert len(scheduler.now.running) == 1
        gate.touch()
        scheduler.until("ended", count=2)
    assert [float(line) for line in lines(order)] == [first, first + 120]
    assert scheduler.counted("churn", "missed") == 1
    assert "the run before it took too long" in scheduler.runs("churn")[1].reason


def test_waiting_for_longer_than_the_grace_is_a_miss(tmp_path: Path) -> None:
    """It is said why, and which knob helps."""
    gate = tmp_path / "gate"
    scheduler = Scheduler(tmp_path, script=f"while [ ! -e {gate} ]; do sleep 0.02; done", max_running=1)
    scheduler.known_since("first", "58 11 * * *", 'grace = "2h"', hours=12)
    scheduler.known_since("second", "59 11 * * *", 'grace = "30m"', hours=12)
    with scheduler:
        poll(lambda: len(scheduler.now.waiting) == 1)
        scheduler.clock.set_by(minutes=40)
        scheduler.until("missed", "second")
        poll(lambda: scheduler.now.waiting == ())
        gate.touch()
    assert [run.outcome for run in scheduler.runs("second")] == ["missed"]
    assert "one of 1 places (--max-running)" in scheduler.runs("second")[0].reason


def test_a_run_that_ignores_its_timeout_is_killed_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM, then KILL; what the ledger has in progress is failed, with the timeout as the reason."""
    scheduler = recording(Scheduler(tmp_path), monkeypatch, "hang")
    scheduler.known_since("churn", settings='timeout = "1h"', hours=0.5)
    with scheduler:
        poll(lambda: scheduler.ledger.state("churn").running)
        scheduler.daemon._dispatcher._running["churn"].terminate_at = monotonic()  # an hour later
        (ended,) = scheduler.until("ended")
    assert scheduler.events("stopping", "churn")
    assert ended["exit_code"] == -signal.SIGKILL
    (run,) = scheduler.runs("churn")
    assert (run.outcome, run.reason) == ("failed", "timeout: the run took longer than job.timeout (3600 s)")


def test_a_process_that_hangs_before_its_run_begins_is_stopped_by_the_timeout_too(tmp_path: Path) -> None:
    """With all it started: a group of its own, which ignores TERM as one."""
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (while :; do sleep 1; done) & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait; sleep 60"
    scheduler = Scheduler(tmp_path, script=script)
    scheduler.known_since("churn", settings='timeout = "1s"', hours=0.5)
    with scheduler:
        scheduler.until("ended")
    assert scheduler.runs("churn")[0].reason == "the run never began: timeout: the run took longer than job.timeout (1 s)"
    forked, leader = map(int, pids.read_text().split())
    poll(lambda: not alive(forked) and not alive(leader))


def test_what_a_run_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """A forked process that ignores TERM would hold the job's lock, and the machine's memory."""
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (while :; do sleep 1; done) & echo $! $$ > {pids}; exit 3"
    scheduler = Scheduler(tmp_path, script=script)
    scheduler.known_since("churn", hours=0.5)
    with scheduler:
        scheduler.until("ended")
    left, leader = map(int, pids.read_text().split())
    poll(lambda: not alive(left) and not alive(leader))


def test_a_run_that_is_killed_is_recorded_with_its_signal_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does when memory runs out."""
    scheduler = recording(Scheduler(tmp_path), monkeypatch, "hang")
    scheduler.known_since("churn", hours=0.5)
    with scheduler:
        poll(lambda: scheduler.ledger.state("churn").running)
        os.kill(scheduler.now.running[0].pid, signal.SIGKILL)
        scheduler.until("ended")
        poll(lambda: not scheduler.now.running)
        killed = "the run was not finished: its process was killed by SIGKILL (out of memory, or by hand)"
        assert scheduler.runs("churn")[0]._replace(at="") == ("failed", "", killed)
        scheduler.clock.set_by(hours=1)
        scheduler.until("started", count=2)
        poll(lambda: scheduler.ledger.state("churn").running)
        os.kill(scheduler.now.running[0].pid, signal.SIGKILL)
        scheduler.until("ended", count=2)
    assert scheduler.counted("churn", "failed") == 2


def test_a_run_that_never_began_is_a_failed_one(tmp_path: Path) -> None:
    """With its exit code, where to look, and its last words; its time isn't tried again."""
    scheduler = Scheduler(tmp_path, script="echo 'error: no such model' >&2; exit 2")
    scheduler.known_since("churn", hours=0.5)
    with scheduler:
        scheduler.until("ended")
    ((outcome, _, reason),) = scheduler.runs("churn")
    assert outcome == "failed"
    assert "never began" in reason
    assert "exit code 2" in reason
    assert reason.endswith("error: no such model")
    assert str(scheduler.ledger.folder / "logs" / "churn.log") in reason
    state = scheduler.ledger.state("churn")
    assert (state.name, state.next_expected_at) == ("failed", at(13))


def test_a_process_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """No memory for a process, say: until its grace is over."""
    program = tmp_path / "program"
    scheduler = Scheduler(tmp_path, command=lambda *_: [str(program)])
    scheduler.known_since("churn", hours=0.5)
    with scheduler:
        scheduler.until("not started")
        assert [entry.job for entry in scheduler.now.waiting] == ["churn"]
        program.write_text("#!/bin/sh\nexit 0\n")
        program.chmod(0o755)
        scheduler.until("ended")
    assert len(scheduler.events("started")) == 1


def test_a_defect_costs_one_job_its_run_and_not_the_others(tmp_path: Path) -> None:
    """The loop goes on."""
    scheduler = Scheduler(tmp_path)

    def command(*arguments: object) -> list[str]:
        if "bad" in str(arguments[0]):
            raise ZeroDivisionError("mine")
        return ["/bin/true"]

    scheduler.settings["command"] = command
    scheduler.known_since("bad", hours=0.5)
    scheduler.known_since("good", hours=0.5)
    with scheduler:
        scheduler.until("ended", "good")
        assert "mine" in scheduler.until("defect")[0]["error"]


def test_the_clock_set_forward_loses_nothing_in_silence(scheduler: Scheduler) -> None:
    """Three hours at once: the last time is run, the ones before are counted."""
    scheduler.known_since("churn", hours=0.2)
    with scheduler:
        scheduler.until("ended")
        scheduler.clock.set_by(hours=3)
        scheduler.until("clock")
        scheduler.until("ended", count=2)
    assert [event["due_at"] for event in scheduler.events("started")] == [at(12), at(15)]
    assert [run.at for run in scheduler.runs("churn") if run.outcome == "missed"] == ["13:00", "14:00"]


def test_the_clock_set_back_runs_nothing_twice(scheduler: Scheduler) -> None:
    """The repeated hour is accounted for."""
    scheduler.known_since("churn", "*/10 * * * *", hours=0.05)
    with scheduler:
        scheduler.until("ended")
        scheduler.clock.set_by(hours=-1)
        scheduler.until("clock")
        scheduler.clock.set_by(minutes=30)
        scheduler.until("clock", count=2)
        scheduler.clock.set_by(minutes=30)
        scheduler.until("clock", count=3)
        scheduler.clock.set_by(minutes=10)
        scheduler.until("ended", count=2)
    assert [event["due_at"] for event in scheduler.events("started")] == [at(12), at(12, 10)]
    assert scheduler.counted("churn", "missed") == 0


def test_a_clock_that_was_years_ahead_is_not_believed_for_years(scheduler: Scheduler) -> None:
    """Or the job would never run again."""
    scheduler.known_since("churn", hours=0.2)
    with scheduler:
        scheduler.until("ended")
        scheduler.clock.set_by(days=4000)
        scheduler.until("ended", count=2)
        scheduler.clock.set_by(days=-4000)
        scheduler.until("clock", count=2)
        scheduler.clock.set_by(hours=1)
        scheduler.until("ended", count=3)
    assert scheduler.events("started")[-1]["due_at"] == at(13)


def test_job_files_come_change_break_and_go(scheduler: Scheduler) -> None:
    """A broken one leaves the last good definition in force, also across a restart; a deleted one is scheduled no more."""
    path = scheduler.write("churn", "0 13 * * *")
    with scheduler:
        scheduler.until("scheduled", "churn")
        scheduler.write("late", "0 14 * * *")
        poll(lambda: [job.next_due_at for job in scheduler.now.jobs] == [at(13), at(14)])
        scheduler.write("churn", "0 15 * * *")
        poll(lambda: scheduler.now.jobs[0].next_due_at == at(15))
        good = path.read_text()
        path.write_text(good.replace("schedule", "scehdule"))
        scheduler.until("broken file")
        (broken,) = poll(lambda: scheduler.now.broken)
        assert "did you mean 'schedule'?" in broken.error
        assert broken.running
        assert (scheduler.now.jobs[0].next_due_at, scheduler.now.jobs[0].error) == (at(15), broken.error)
        (scheduler.folder / "jobs" / "late.toml").unlink()
        scheduler.until("unscheduled", "late")
        assert [job.job for job in scheduler.now.jobs] == ["churn"]
    scheduler.known_since("other", "0 13 * * *", hours=1)
    with scheduler:
        poll(lambda: len(scheduler.now.jobs) == 2)
        assert scheduler.now.jobs[0].next_due_at == at(15)
        assert len(scheduler.now.broken) == 1
        path.write_text(good)
        scheduler.until("mended file")
        poll(lambda: not scheduler.now.broken)


def test_times_at_which_the_job_file_was_away_are_missed_for_that_reason(scheduler: Scheduler) -> None:
    """Nobody held the scheduler up: whoever took the file away, or broke it, should read so."""
    scheduler.known_since("away", "* * * * *", "grace = '0s'", hours=0)
    path = scheduler.folder / "jobs" / "away.toml"
    with scheduler:
        scheduler.until("scheduled", "away")
        path.rename(path.with_suffix(".away"))
        scheduler.until("unscheduled", "away")
        scheduler.clock.set_by(minutes=3)
        path.with_suffix(".away").rename(path)
        (missed,) = scheduler.until("missed", "away")
        scheduler.clock.set_by(minutes=3)
        _, held_up = scheduler.until("missed", "away", count=2)
    assert missed["message"].endswith("not started in time: its job file was away, or broken")
    assert "the clock was set" in held_up["message"]


def test_a_broken_file_still_runs_by_its_last_good_definition(tmp_path: Path) -> None:
    """The process is given a copy of it."""
    copies = tmp_path / "copies"
    scheduler = Scheduler(tmp_path, command=lambda file, *_: ["/bin/sh", "-c", f"cat '{file.copy}' > {copies}"])
    path = scheduler.known_since("churn", "0 13 * * *", hours=0.5)
    good = path.read_text()
    with scheduler:
        scheduler.until("scheduled")
        path.write_text("nonsense")
        scheduler.until("broken file")
        scheduler.clock.set_by(hours=1)
        scheduler.until("ended")
    assert copies.read_text() == good


def test_a_run_in_progress_outlives_its_job_file(tmp_path: Path) -> None:
    """It is watched to its end."""
    gate = tmp_path / "gate"
    scheduler = Scheduler(tmp_path, script=f"while [ ! -e {gate} ]; do sleep 0.02; done")
    path = scheduler.known_since("churn", hours=0.5)
    with scheduler:
        scheduler.until("started")
        path.unlink()
        scheduler.until("unscheduled")
        assert [run.job for run in scheduler.now.running] == ["churn"]
        gate.touch()
        scheduler.until("ended")


HOLDER = """
import sys, time
from monitoring.ledger import Ledger
with Ledger.open(sys.argv[1]) as ledger, ledger.lock("run", "churn"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_run_is_taken_over_however_many_were_missed_while_it_went_on(scheduler: Scheduler) -> None:
    """They are all newer than it is, and the history is long."""
    scheduler.known_since("churn", "* * * * *", hours=0)
    holder = [sys.executable, "-c", HOLDER, scheduler.environment.ledger]
    with subprocess.Popen(holder, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = psutil.Process(process.pid).create_time() + 0.5  # no process is younger than its run
        run = replace(run_start("long", "churn", began), trigger=Trigger.SCHEDULER, host=gethostname(), pid=process.pid)
        scheduler.ledger.start_run(run, next_expected_at=None, due_at=scheduler.clock())
        due = [scheduler.clock() + 60 * minute for minute in range(1, 100)]
        missed = [missed_report("churn", at, logical_date=NOON.date(), reason="the run before it took too long") for at in due]
        assert scheduler.ledger.miss_runs("churn", missed) == 99
        found = orphan(scheduler.ledger, "churn", scheduler.folder / "log")
        process.kill()
    assert found is not None
    assert found.child.pid == process.pid


def test_what_an_old_schedule_owed_is_counted_when_it_changes(scheduler: Scheduler) -> None:
    """The file was changed while nobody scheduled."""
    scheduler.known_since("churn", hours=2.5)
    scheduler.write("churn", "30 13 * * *")
    with scheduler:
        scheduler.until("scheduled")
        scheduler.until("missed")
    assert [run[:2] for run in scheduler.runs("churn")] == [("missed", "10:00"), ("missed", "11:00"), ("missed", "12:00")]
    assert not scheduler.events("started")


def test_a_job_without_a_schedule_is_known_and_never_started(scheduler: Scheduler) -> None:
    """It is run by hand."""
    path = scheduler.write("churn")
    path.write_text(path.read_text().replace('schedule = "0 * * * *"\n', ""))
    with scheduler:
        scheduler.until("scheduled")
        (job,) = poll(lambda: scheduler.now.jobs)
        assert (job.schedule, job.next_due_at) == (None, None)
        assert scheduler.daemon.figures().jobs == 0
    assert scheduler.ledger.jobs() == ("churn",)


def test_a_job_that_was_forgotten_by_hand_is_made_known_again(scheduler: Scheduler) -> None:
    """Its file says that it goes on."""
    scheduler.write("churn")
    with scheduler:
        scheduler.until("scheduled")
        scheduler.ledger.forget("churn")
        scheduler.clock.set_by(hours=1)
        poll(lambda: scheduler.ledger.jobs() == ("churn",))
        scheduler.clock.set_by(hours=1)
        scheduler.until("ended")
    assert not scheduler.events("ledger trouble")


def test_a_ledger_that_is_held_for_long_delays_and_loses_nothing(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once, it is in the snapshot, and afterwards all is put down."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    scheduler = Scheduler(scheduler.folder)
    scheduler.known_since("churn", hours=3.5)
    holder = sqlite3.connect(scheduler.ledger.location)
    holder.execute("BEGIN IMMEDIATE")
    with scheduler:
        scheduler.until("ledger trouble")
        poll(lambda: scheduler.now.trouble)
        assert scheduler.daemon.figures().ledger_trouble
        holder.rollback()
        scheduler.until("ledger well")
        scheduler.until("ended")
    holder.close()
    assert scheduler.counted("churn", "missed") == 3
    assert len(scheduler.events("ledger trouble")) == 1


def test_stopping_asks_runs_to_finish_and_starts_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that was asked is recorded; what waited is left for the next start, which runs it."""
    scheduler = recording(Scheduler(tmp_path, max_running=1), monkeypatch, "stop")
    scheduler.known_since("first", "58 11 * * *", hours=12)
    scheduler.known_since("second", "59 11 * * *", hours=12)
    with scheduler:
        poll(lambda: scheduler.ledger.state("first").running)
    assert scheduler.runs("first")[0]._replace(at="") == ("failed", "", "stopped by SIGTERM")
    assert scheduler.runs("second") == []
    scheduler.settings["command"] = recording_run()
    with scheduler:
        scheduler.until("ended", "second")
    assert [run.outcome for run in scheduler.runs("first") + scheduler.runs("second")] == ["failed", "success"]


def test_stopping_ends_runs_that_do_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time it was told to wait, with all they started; they are recorded as failed, and why."""
    scheduler = recording(Scheduler(tmp_path, shutdown_seconds=0.5), monkeypatch, "hang")
    scheduler.known_since("churn", hours=0.5)
    with scheduler:
        poll(lambda: scheduler.ledger.state("churn").running)
        pid = scheduler.now.running[0].pid
    assert not alive(pid)
    assert scheduler.runs("churn")[0]._replace(at="") == ("failed", "", "the scheduler was stopped (test)")


def test_a_run_that_had_not_begun_when_all_stopped_is_left_for_the_next_start(tmp_path: Path) -> None:
    """It has done nothing yet, so nothing is lost."""
    scheduler = Scheduler(tmp_path, script="exec sleep 60")
    scheduler.known_since("churn", hours=0.5)
    with scheduler:
        scheduler.until("started")
    assert scheduler.runs("churn") == []
    scheduler.script = "exit 0"
    with scheduler:
        scheduler.until("started", count=2)
        scheduler.until("ended", count=2)


def test_a_new_job_has_its_zeros_pushed_at_once(tmp_path: Path, pushgateway: Server) -> None:
    """Before its first run, so that the first increase is seen."""
    scheduler = Scheduler(tmp_path, sync_every_seconds=3600.0).pushing_to(pushgateway.url)
    with scheduler:
        scheduler.write("churn", "0 13 * * *")
        poll(lambda: [group.labels["job"] for group in Gateway(pushgateway.url).groups()] == ["churn"])
        poll(lambda: scheduler.now.last_good_sync_at)


def test_output_goes_to_a_file_of_the_job_and_not_to_the_log(tmp_path: Path) -> None:
    """It outlives the scheduler; a run that writes to a pipe whose reader has died would die too."""
    scheduler = Scheduler(tmp_path, script="echo said; echo complained >&2", log_folder=tmp_path / "output")
    scheduler.known_since("churn", hours=0.5)
    with scheduler:
        scheduler.until("ended")
    assert (tmp_path / "output" / "churn.log").read_text() == "said\ncomplained\n"
    assert "said" not in scheduler.stream.getvalue()


def test_by_default_there_is_a_run_for_each_accelerator_else_for_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """And always one."""
    monkeypatch.setattr(settings, "accelerators", lambda: 0)
    for cores, runs in ((1, 1), (2, 1), (5, 2), (16, 8)):
        monkeypatch.setattr(settings, "available_cores", lambda cores=cores: cores)
        assert settings.default_max_running() == runs
    monkeypatch.setattr(settings, "accelerators", lambda: 3)
    assert settings.default_max_running() == 3


def test_a_process_that_was_reaped_is_signalled_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose end the ledger can't take is settled again and again, and its id may be another's by then."""
    child = StartedChild(["true"], tmp_path / "churn.log")
    child.wait()
    assert child.reap() == 0
    signalled: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _number: signalled.append(pid))
    monkeypatch.setattr(os, "killpg", lambda pid, _number: signalled.append(pid))
    child.terminate()
    child.kill()
    assert signalled == []
