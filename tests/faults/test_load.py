"""Many jobs for a long time: what is held and kept doesn't grow with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring import servers
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from monitoring.state import Destination
from pipelines.cancellation import Cancellation
from tests.conftest import poll
from tests.faults.conftest import Tally
from tests.faults.pushers import name
from tests.faults.samples import Sample, growth, told
from tests.reports import definition, finished, holdout, one_run, part
from tests.tiny_job import TinyJob

ROOT = Path(__file__).parents[2]
JOBS, PROCESSES = 200, 4
PUSHING_SECONDS, EVERY_SECONDS = 600.0, 5.0
STEPS = 42
"""Of four hours each: a week."""


@contextmanager
def started(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", f"tests.faults.{program}", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_two_hundred_jobs_push_every_second_for_ten_minutes(tmp_path: Path, tally: Tally) -> None:
    """Every push arrives, the gateway shows each job's newest state, and neither side holds more at the end."""
    with servers.pushgateway() as gateway, ExitStack() as stack:
        with Ledger.open(tmp_path / "ledger" / "ledger.db") as ledger:
            for number in range(JOBS):
                destination = Destination(gateway=gateway.url, every_seconds=1.0, timeout_seconds=30.0)
                ledger.register(definition(name(number), destination=destination), now=1.0, next_expected_at=None)
                parts = (part(f"{number}.parquet"),)
                one_run(ledger, finished(f"run-{number}", name(number), parts=parts, holdouts=(holdout(),)), parts)
        each = JOBS // PROCESSES
        file = tmp_path / "ledger" / "ledger.db"
        pushing = [stack.enter_context(started("pushers", file, first, first + each)) for first in range(0, JOBS, each)]
        there = Gateway(gateway.url, timeout_seconds=60.0)
        poll(lambda: len(there.groups()) == JOBS, deadline_seconds=120)
        assert gateway.pid is not None
        processes = [psutil.Process(process.pid) for process in pushing]
        began, server = monotonic(), psutil.Process(gateway.pid)
        samples, servers_own = [], []
        while (at := monotonic() - began) < PUSHING_SECONDS:
            samples.append(Sample.of(processes, file, at=at))
            servers_own.append(Sample.of([server], file, at=at))
            sleep(EVERY_SECONDS)  # it is the time that is tried here
        said = [json.loads(process.communicate()[0]) for process in pushing]
        with Ledger.open(file) as ledger:
            states = [ledger.state(job) for job in ledger.jobs()]
        shown = {group.labels["job"]: group.sequence for group in there.groups()}
    pushes = sum(one["pushes"] for one in said)
    tally.add(
        "200 jobs push every second", tries=pushes, losses=sum(len(one["errors"]) for one in said), measured=told(samples)
    )
    tally.add("  their gateway", tries=pushes, losses=0, measured=told(servers_own))
    assert [one["errors"] for one in said] == [[]] * PROCESSES
    assert shown == {state.definition.job: state.sequence for state in states}
    assert_flat(samples, memory=0.05)
    assert_flat(servers_own, memory=0.25)  # its collector frees in steps


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_scheduler_with_two_hundred_jobs_for_a_week(tmp_path: Path, tally: Tally) -> None:
    """Every run is started and recorded; the histories stay as long as the jobs say, and the scheduler holds no more."""
    with started("week", tmp_path, JOBS, STEPS) as process:
        assert process.stdout is not None
        *said, end = map(json.loads, process.stdout)
    samples = [Sample(**{key: one[key] for key in Sample.__slots__}) for one in said]
    assert (said[-1]["started"], said[-1]["missed"]) == (JOBS * STEPS, 0)
    assert end == {"longest_history": 20, "counted": JOBS * STEPS}
    tally.add("a week of a scheduler with 200 jobs", tries=JOBS * STEPS, losses=0, measured=told(samples))
    assert len(samples) == STEPS
    # A history is full after 20 of the 42 steps, so it is the second half that must be flat.
    assert_flat(samples[STEPS // 2 :], memory=0.05)


def assert_flat(samples: list[Sample], *, memory: float) -> None:
    """Within a share of what is held for memory, a few for what is counted, a tenth for the ledger's files.

    How many descriptors are open depends on how many push at this moment: it is their highest number that must not rise.
    """
    grown, first, half = growth(samples), samples[0], len(samples) // 2
    early, late = (max(sample.descriptors for sample in part) for part in (samples[:half], samples[half:]))
    assert grown["memory"] <= memory * max(first.memory, samples[-1].memory), told(samples)
    assert late <= early + 2 + first.descriptors // 10, told(samples)
    assert grown["threads"] <= 2 + first.threads // 10, told(samples)
    assert grown["ledger"] <= 0.1 * max(sample.ledger for sample in samples), told(samples)


def test_what_is_kept_of_many_nights_is_bounded(tmp_path: Path, tally: Tally) -> None:
    """The history and the records of batches: as many runs as the job says. Only committed parts are known for good."""
    nights, kept_runs, kept_records = (400 if tally.soak else 12), 5, 3
    job = TinyJob(tmp_path / "job")
    job.edit({"[model]": f"keep_runs = {kept_runs}\n\n[model]", "workers = 2": f"workers = 1\nkeep_runs = {kept_records}"})
    file = tmp_path / "state" / "ledger.db"
    environment = read({"BATCHGAUGE_LEDGER": str(file)})
    spec, sizes = load(job.spec), []
    for number in range(nights):
        night = date(2026, 1, 1) + timedelta(days=number)
        job.write_input(str(night), 200)
        run(RunRequest(spec, environment, logical_date=night), observer=Silent(), cancellation=Cancellation())
        with Ledger.open(environment.ledger) as ledger:
            assert len(ledger.runs("tiny", limit=1000)) == min(number + 1, kept_runs)
            assert len(list(ledger.batch_folder("tiny").glob("*.parquet"))) == min(number + 1, kept_records)
        sizes.append(file.stat().st_size)
    with Ledger.open(environment.ledger) as ledger:
        assert ledger.state("tiny").counters["inference_requests_total", ()] == 200 * nights
    each = (sizes[-1] - sizes[nights // 2]) / (nights - 1 - nights // 2)
    tally.add(
        "nights of which little is kept", tries=nights, losses=0, measured=f"the ledger grows by {each:.0f} bytes a night"
    )
    assert each < 8_192
