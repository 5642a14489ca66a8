"""Whatever the gateway does, a run scores as ever, ends soon, says what it owes, and the newest state arrives later."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from statistics import median
from time import monotonic

import pytest
import trustme

from jobs.delivery import push_jobs
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest, RunResult
from jobs.run import run
from jobs.scheduler.sync import Sync
from jobs.spec import load
from monitoring import servers
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from pipelines.cancellation import Cancellation
from pipelines.report import Outcome, PartReport
from tests.conftest import poll
from tests.faults.conftest import Tally
from tests.faults.proxy import FAULTS, Fault, FaultProxy, heal
from tests.tiny_job import TinyJob

NIGHT = "2026-11-01"
ROWS = 300
TIMEOUT_SECONDS = 0.5
PATIENCE_SECONDS = TIMEOUT_SECONDS + 1.0 + 20.0
"""A delivery's bound, that of the side thread's, and room for a machine that is busy: no fault ends by itself."""

HOLDING = ("hang", "one byte at a time")
PAIRS = 11

fault = pytest.mark.parametrize("fault", FAULTS, ids=str)


class Moments(Silent):
    """Does something after the first part, and when scoring is over; knows when that was."""

    def __init__(self, *, at_first_part: Callable[[], None] | None = None, at_end: Callable[[], None] | None = None) -> None:
        self._at_first_part = at_first_part
        self._at_end = at_end
        self.scored_at = 0.0

    def part(self, report: PartReport) -> None:
        del report
        if self._at_first_part is not None:
            self._at_first_part()
            self._at_first_part = None

    def phase(self, name: str) -> None:
        if name == "pushing":
            self.scored_at = monotonic()
            if self._at_end is not None:
                self._at_end()


@pytest.fixture(scope="module")
def forgetful() -> Iterator[servers.Server]:
    """A Pushgateway that may be restarted."""
    with servers.pushgateway() as server:
        yield server


@pytest.fixture
def proxy(forgetful: servers.Server) -> Iterator[FaultProxy]:
    with FaultProxy(forgetful) as proxy:
        yield proxy
    for group in Gateway(forgetful.url).groups():
        Gateway(forgetful.url).delete(group.labels)


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    job = TinyJob(tmp_path / "job")
    job.write_input(NIGHT, ROWS)
    return job


def environment(folder: Path, proxy: FaultProxy, **more: str) -> Environment:
    return read({"BATCHGAUGE_LEDGER": str(folder / "ledger.db"), "BATCHGAUGE_GATEWAY": proxy.url, **more})


def go(job: TinyJob, environment: Environment, moments: Moments, *, timeout: float = TIMEOUT_SECONDS) -> RunResult:
    """A run: it has scored everything, and ended within bounds."""
    spec = load(job.spec)
    quick = spec.push.model_copy(update={"timeout": timeout, "every": 0.02})
    request = RunRequest(spec.model_copy(update={"push": quick}), environment, logical_date=date.fromisoformat(NIGHT))
    result = run(request, observer=moments, cancellation=Cancellation())
    assert monotonic() - moments.scored_at < PATIENCE_SECONDS
    assert (result.report.outcome, result.report.rows_scored, result.report.reason) == (Outcome.SUCCESS, ROWS, None)
    assert len(set(job.output(NIGHT)["id"].to_pylist())) == ROWS
    return result


def assert_owed_with(words: str, result: RunResult, environment: Environment) -> None:
    """The run says why in the gateway's words, and so does the ledger."""
    assert result.delivery is None
    assert words in (result.push_error or "")
    with Ledger.open(environment.ledger) as ledger:
        state = ledger.state("tiny")
    assert state.owed
    assert words in (state.push_error or "")


def assert_delivered_later(environment: Environment, gateway: servers.Server) -> None:
    """Whoever comes next delivers the newest state, as it is in the ledger."""
    with Ledger.open(environment.ledger) as ledger:
        (push,) = push_jobs(ledger, ["tiny"], environment, only_owed=True)
        assert push.error is None
        assert not ledger.state("tiny").owed
        assert shown(gateway) == {"tiny": ledger.state("tiny").sequence}


def shown(gateway: servers.Server) -> dict[str, float | None]:
    return {group.labels["job"]: group.sequence for group in Gateway(gateway.url).groups()}


@fault
def test_a_fault_from_before_the_run_on(
    job: TinyJob, tmp_path: Path, proxy: FaultProxy, forgetful: servers.Server, fault: Fault
) -> None:
    """The run never reaches the gateway."""
    there = environment(tmp_path, proxy)
    fault.begin(proxy)
    assert_owed_with(fault.words, go(job, there, Moments()), there)
    heal(proxy)
    assert_delivered_later(there, forgetful)


@fault
def test_a_fault_that_begins_and_ends_during_the_run(
    job: TinyJob, tmp_path: Path, proxy: FaultProxy, forgetful: servers.Server, fault: Fault
) -> None:
    """A push in the middle meets it, and nobody has to do anything: the one at the end carries all there is."""
    there = environment(tmp_path, proxy)

    def begin() -> None:
        fault.begin(proxy)
        with Ledger.open(there.ledger) as ledger:
            poll(lambda: fault.words in (ledger.state("tiny").push_error or ""))

    moments = Moments(at_first_part=begin, at_end=lambda: heal(proxy))
    result = go(job, there, moments)
    assert result.push_error is None
    with Ledger.open(there.ledger) as ledger:
        assert shown(forgetful) == {"tiny": ledger.state("tiny").sequence}


@fault
def test_a_fault_after_the_scoring(
    job: TinyJob, tmp_path: Path, proxy: FaultProxy, forgetful: servers.Server, fault: Fault
) -> None:
    """The last push is the one that matters, and it is owed."""
    there = environment(tmp_path, proxy)
    assert_owed_with(fault.words, go(job, there, Moments(at_end=lambda: fault.begin(proxy))), there)
    heal(proxy)
    assert_delivered_later(there, forgetful)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name in HOLDING], ids=str)
def test_scoring_waits_for_no_gateway(
    job: TinyJob, tmp_path: Path, proxy: FaultProxy, forgetful: servers.Server, fault: Fault
) -> None:
    """A push is held from the first part on, and only we let go of it: by then the run is over, with all its parts."""
    there = environment(tmp_path, proxy)
    held: list[tuple[bool, str | None, int]] = []

    def begin() -> None:
        fault.begin(proxy)
        before = len(proxy.requests)  # one of them may be under way, and pass
        poll(lambda: len(proxy.requests) > before)

    def let_go() -> None:
        with Ledger.open(there.ledger) as ledger:
            (record,) = ledger.runs("tiny")
        held.append((proxy.answering, record.outcome, record.rows_scored))
        heal(proxy)

    result = go(job, there, Moments(at_first_part=begin, at_end=let_go), timeout=60.0)
    assert held == [(True, Outcome.SUCCESS, ROWS)]
    assert result.push_error is None
    with Ledger.open(there.ledger) as ledger:
        assert shown(forgetful) == {"tiny": ledger.state("tiny").sequence}


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_scoring_takes_as_long_as_with_a_gateway_that_is_well(
    tmp_path: Path, proxy: FaultProxy, forgetful: servers.Server, tally: Tally
) -> None:
    """The ratio of scoring times, each run with a fault beside one without; both push five times a second."""
    del forgetful  # the proxy's
    job = TinyJob(tmp_path / "job")
    job.edit({"part_rows = 100": "part_rows = 1000", "rows = 50": "rows = 500"})
    job.write_input(NIGHT, 60_000, group_rows=1000)
    there = environment(tmp_path, proxy)
    spec = load(job.spec)
    quick = spec.model_copy(update={"push": spec.push.model_copy(update={"timeout": TIMEOUT_SECONDS, "every": 0.2})})
    request = RunRequest(quick, there, logical_date=date.fromisoformat(NIGHT), rescore=True)

    def seconds() -> float:
        return run(request, observer=Silent(), cancellation=Cancellation()).report.scoring_seconds

    seconds()
    for fault in FAULTS:
        ratios = []
        for pair in range(PAIRS):
            well = seconds() if pair % 2 else None  # each comes first as often as the other
            fault.begin(proxy)
            ill = seconds()
            heal(proxy)
            ratios.append(ill / (well or seconds()))
        low, *_, high = sorted(ratios)
        measured = f"scoring time × {median(ratios):.3f} ({low:.2f} to {high:.2f})"
        tally.add(f"gateway: {fault}", tries=PAIRS, losses=0, measured=measured)


def tls_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_a_wrong_certificate(job: TinyJob, tmp_path: Path, proxy: FaultProxy, forgetful: servers.Server, moment: str) -> None:
    """It is an error, never a warning; once it is right again the state arrives."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    right, wrong = tls_context(authority), tls_context(stranger)
    proxy.tls = wrong if moment == "before" else right
    there = environment(tmp_path, proxy, BATCHGAUGE_CA_FILE=str(tmp_path / "ca.pem"))

    def present(context: ssl.SSLContext) -> None:
        proxy.tls = context

    moments = {
        "before": Moments(),
        "during": Moments(at_first_part=lambda: present(wrong), at_end=lambda: present(right)),
        "after": Moments(at_end=lambda: present(wrong)),
    }
    result = go(job, there, moments[moment])
    if moment == "during":
        assert result.push_error is None
        return
    assert_owed_with("its certificate is not trusted", result, there)
    present(right)
    assert_delivered_later(there, forgetful)


@pytest.mark.parametrize("moment", ["during", "after"])
def test_a_gateway_that_was_restarted_empty(
    job: TinyJob, tmp_path: Path, proxy: FaultProxy, forgetful: servers.Server, moment: str
) -> None:
    """In the middle of a run it gets everything with the next push; after it, the sync sees what is missing."""
    there = environment(tmp_path, proxy)
    during = moment == "during"
    result = go(job, there, Moments(at_first_part=proxy.restart_gateway if during else None))
    assert result.push_error is None
    if not during:
        proxy.restart_gateway()
        assert shown(forgetful) == {}
    with Ledger.open(there.ledger) as ledger:
        synced = Sync(ledger, there, busy=frozenset).once()
        assert (synced.ok, synced.pushed) == (True, () if during else ("tiny",))
        assert shown(forgetful) == {"tiny": ledger.state("tiny").sequence}
