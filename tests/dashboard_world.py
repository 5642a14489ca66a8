"""A world for the dashboards to show: jobs of every sort on a real Pushgateway, scraped by a real Prometheus."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from jobs.delivery import register_job
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring import names, servers
from monitoring.exposition import render
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from monitoring.servers import Server
from monitoring.state import JobState
from pipelines.cancellation import Cancellation
from pipelines.report import Estimate, HoldoutReport, Outcome, SliceReport
from tests.conftest import poll
from tests.queries import vector
from tests.reports import definition, finished, full_state, holdout, one_run, part
from tests.test_grafana import NASTY
from tests.tiny_job import SPEC, TinyJob

RULES = Path(__file__).parent.parent / "monitoring" / "prometheus" / "rules"

FULL, REAL, PLAIN, TWIN, SURELY_BAD, NEVER_RAN, LATE = "full", "real", "plain", "twin", "bad", "new", "late"
NAMED = NASTY.replace("`", "'")  # PromQL has no way to write a backtick between backticks
NASTY_HOLDOUT, NASTY_DIMENSION = 'hold"out\\ {x} (a|b)', "größe,/['] $job"
ENVIRONMENTS = ("prod", "staging")
CROWD = tuple(f"crowd-{number:03d}" for number in range(200))
FAILED_IN_CROWD = 20  # one in ten
NOT_NUMBERS = 7
REQUESTS = names.REQUESTS.name

JOBS = (FULL, REAL, PLAIN, SURELY_BAD, NEVER_RAN, LATE, NAMED)
"""The jobs that are pushed under their name alone, the crowd aside."""

NIGHT = date(2026, 11, 1)
PLAIN_SPEC = SPEC.split("[[holdout]]", maxsplit=1)[0].replace('name = "tiny"', f'name = "{PLAIN}"')


@dataclass(frozen=True, slots=True)
class World:
    """The servers, and nothing else: what there is to know is asked of them."""

    gateway: Server
    prometheus: Server

    def count(self, expression: str) -> float:
        """The one number that an expression gives, 0 if none."""
        found = vector(self.prometheus, expression)
        return float(found[0]["value"][1]) if found else 0.0


@contextmanager
def crowded(folder: Path) -> Iterator[World]:
    """Every sort of job, and two hundred more; a node_exporter; no rules."""
    with servers.pushgateway() as gateway, servers.node_exporter() as node:
        scrape = {"pushgateway": gateway.url.removeprefix("http://"), "node": node.url.removeprefix("http://")}
        with servers.prometheus(scrape=scrape) as prometheus:
            world = World(gateway, prometheus)
            push_made(folder, Gateway(gateway.url))
            push_crowd(folder, Gateway(gateway.url))
            run_plain(folder / "plain", world)
            run_real(folder / "real", world)
            # An increase takes two samples of each series.
            poll(lambda: world.count("min(count_over_time(batch_runs_total[1m]))") >= 2)
            yield world


@contextmanager
def alarmed(folder: Path) -> Iterator[World]:
    """A few jobs, and our own rules, which fire at once."""
    rules = []
    for file in sorted(RULES.glob("*.yml")):
        copy = folder / f"{file.stem}.json"
        groups = yaml.safe_load(file.read_text(encoding="utf-8"))
        for rule in (rule for group in groups["groups"] for rule in group["rules"] if "alert" in rule):
            rule["for"] = "0s"
        copy.write_text(json.dumps(groups), encoding="utf-8")  # JSON is YAML
        rules.append(copy)
    with servers.pushgateway() as gateway:
        push_made(folder, Gateway(gateway.url))
        scrape = {"pushgateway": gateway.url.removeprefix("http://")}
        with servers.prometheus(scrape=scrape, rules=rules) as prometheus:
            world = World(gateway, prometheus)
            poll(lambda: world.count(f'count(ALERTS{{alertstate="firing", job="{SURELY_BAD}"}})') >= 2)
            yield world


def push_made(folder: Path, gateway: Gateway) -> None:
    """Jobs made by hand: one with every family, one with nasty names, one in two environments, a bad one, and more."""
    now = time.time()
    (folder / "made").mkdir()
    put(gateway, full_state(folder / "made", FULL), {"job": FULL})
    with Ledger.open(folder / "made" / "more.db") as ledger:
        ledger.register(definition(NAMED, holdouts=(NASTY_HOLDOUT, "other")), now=now, next_expected_at=now + 3600)
        nasty = replace(
            holdout(NASTY_HOLDOUT),
            slices=(SliceReport(NASTY_DIMENSION, NAMED, 50, 20, Estimate(0.4, 0.28, 0.54), None, judged=True),),
        )
        finish(ledger, NAMED, holdouts=(nasty, holdout("other")))
        ledger.register(definition(TWIN), now=now, next_expected_at=now + 3600)
        finish(ledger, TWIN, holdouts=(holdout(),))
        ledger.register(definition(SURELY_BAD), now=now, next_expected_at=now + 3600)
        bad = replace(holdout(), correct=300, accuracy=Estimate(0.5, 0.46, 0.54))
        finish(ledger, SURELY_BAD, outcome=Outcome.FAILED, holdouts=(bad,))
        ledger.register(definition(NEVER_RAN, holdouts=()), now=now, next_expected_at=now + 3600)
        ledger.register(definition(LATE, holdouts=()), now=now, next_expected_at=now - 7200)
        finish(ledger, LATE)
        for job in (NAMED, SURELY_BAD, NEVER_RAN, LATE):
            put(gateway, ledger.state(job), {"job": job})
        for environment in ENVIRONMENTS:
            put(gateway, ledger.state(TWIN), {"job": TWIN, "env": environment})


def push_crowd(folder: Path, gateway: Gateway) -> None:
    """Two hundred jobs, of which one in ten failed; but for their names and that, all alike."""
    now, alike = time.time(), {}
    with Ledger.open(folder / "crowd.db") as ledger:
        for outcome in (Outcome.FAILED, Outcome.SUCCESS):
            ledger.register(definition(outcome.value), now=now, next_expected_at=now + 3600)
            finish(ledger, outcome.value, outcome=outcome, holdouts=(holdout(),))
            alike[outcome] = ledger.state(outcome.value)
    for number, job in enumerate(CROWD):
        state = alike[Outcome.FAILED if number % 10 == 0 else Outcome.SUCCESS]
        put(gateway, replace(state, definition=replace(state.definition, job=job)), {"job": job})


def run_real(folder: Path, world: World) -> None:
    """Three nights of a real job, the second partial: some rows are not numbers."""
    job = TinyJob(folder, spec=SPEC.replace('name = "tiny"', f'name = "{REAL}"'))
    register(job, world)
    outcomes = []
    for age in range(3):
        night = NIGHT + timedelta(days=age)
        file = job.write_input(night.isoformat(), 300)
        if age == 1:
            spoil(job, file)
        outcomes.append(one_night(job, world, night))
    assert outcomes == [Outcome.SUCCESS, Outcome.PARTIAL, Outcome.SUCCESS]
    poll(lambda: world.count(f'{REQUESTS}{{job="{REAL}"}}') == 3 * 300 - NOT_NUMBERS)


def run_plain(folder: Path, world: World) -> None:
    """One night of a real job without holdouts and without thresholds."""
    job = TinyJob(folder, spec=PLAIN_SPEC)
    register(job, world)
    job.write_input(NIGHT.isoformat(), 300)
    assert one_night(job, world, NIGHT) is Outcome.SUCCESS


def register(job: TinyJob, world: World) -> None:
    """Push the job's zeros, and wait until Prometheus has seen them: what rises then is an increase."""
    where = environment(job, world)
    spec = load(job.spec)
    with Ledger.open(where.ledger) as ledger:
        assert register_job(ledger, spec, where).error is None
    poll(lambda: vector(world.prometheus, f'{REQUESTS}{{job="{spec.job.name}"}} == 0'))


def environment(job: TinyJob, world: World) -> Environment:
    """The job's own ledger, and the world's gateway."""
    return read({"BATCHGAUGE_LEDGER": str(job.folder / "ledger.db"), "BATCHGAUGE_GATEWAY": world.gateway.url})


def one_night(job: TinyJob, world: World, night: date) -> Outcome:
    """Run the job, and see its state pushed."""
    where = environment(job, world)
    result = run(RunRequest(load(job.spec), where, logical_date=night), observer=Silent(), cancellation=Cancellation())
    assert result.delivery is not None, result.push_error
    return result.report.outcome


def spoil(job: TinyJob, file: Path) -> None:
    """Make some of the rows NaN."""
    table = pq.read_table(file, partitioning=None)
    y = table["y"].to_numpy().copy()
    y[:NOT_NUMBERS] = np.nan
    job.write(file, table.set_column(table.schema.get_field_index("y"), "y", pa.array(y)))


def finish(ledger: Ledger, job: str, *, outcome: Outcome = Outcome.SUCCESS, holdouts: tuple[HoldoutReport, ...] = ()) -> None:
    """Take one run of a job through the ledger."""
    parts = (part(rows=1000, latencies=(0.01, 0.02)),)
    one_run(ledger, finished(f"run of {job}", job, outcome=outcome, parts=parts, holdouts=holdouts), parts)


def put(gateway: Gateway, state: JobState, group: Mapping[str, str]) -> None:
    """Push a state as a job would."""
    gateway.put(group, render(state, pushed_at=time.time()))
