"""The ledger adds up: in any order, from many processes, through a kill."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring import names
from monitoring.ledger import Ledger
from pipelines.report import PartReport, Reason
from tests.reports import JOB, definition, part, run_start


@pytest.fixture
def ledger_location(new_location: Callable[[], str]) -> str:
    """Every test of this module, on every database."""
    return new_location()


REQUESTS = (names.REQUESTS.name, ())
BUCKET = f"{names.BATCH_LATENCY.name}_bucket"


def registered(ledger: Ledger) -> Ledger:
    ledger.register(definition(), now=1.0, next_expected_at=1000.0)
    return ledger


PARTS = st.builds(
    part,
    st.uuids().map(lambda name: f"{name}.parquet"),
    rows=st.integers(0, 10**9),
    rejected=st.dictionaries(st.sampled_from(Reason), st.integers(0, 10**6)),
    latencies=st.lists(st.floats(1e-9, 1e3), max_size=5).map(tuple),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reports=st.lists(PARTS, min_size=1, max_size=8), seed=st.integers())
def test_parts_in_any_order_give_the_same_counters(
    new_location: Callable[[], str], reports: list[PartReport], seed: int
) -> None:
    """Exactly the same, seconds too; and no counter ever falls on the way."""

    def totals(ordered: list[PartReport]) -> object:
        with Ledger.open(new_location()) as ledger:
            registered(ledger).start_run(run_start(), next_expected_at=None)
            states = [ledger.state(JOB)]
            for report in ordered:
                ledger.add_parts("run-1", JOB, [report])
                states.append(ledger.state(JOB))
            for earlier, later in pairwise(states):
                assert later.sequence == earlier.sequence + 1
                assert all(later.counters[key] >= value for key, value in earlier.counters.items())
            return states[-1].counters, states[-1].running

    shuffled = random.Random(seed).sample(reports, len(reports))  # noqa: S311  an order, not a secret
    assert totals(reports) == totals(shuffled)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reports=st.lists(PARTS, max_size=8))
def test_parts_together_count_as_they_do_one_by_one(new_location: Callable[[], str], reports: list[PartReport]) -> None:
    """One transaction for all of them is one revision, with the same counters, rows so far and committed parts."""

    def found(groups: list[list[PartReport]]) -> object:
        with Ledger.open(new_location()) as ledger:
            registered(ledger).start_run(run_start(), next_expected_at=None)
            before = ledger.state(JOB).sequence
            for group in groups:
                ledger.add_parts("run-1", JOB, group)
            state = ledger.state(JOB)
            assert state.sequence == before + len(groups)
            return state.counters, state.running, ledger.committed_parts(JOB, "/scored")

    assert found([reports]) == found([[report] for report in reports])


def writer(location: str, job: str, run_id: str, parts: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ledger_writer", location, job, run_id, str(parts)]
    return subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True)


def test_processes_on_one_new_ledger_lose_nothing(ledger_location: str) -> None:
    """They make it together, write at once, and every part of every one is counted."""
    processes = [writer(ledger_location, JOB, f"run-{number}", 25) for number in range(6)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    with Ledger.open(ledger_location) as ledger:
        assert ledger.state(JOB).counters[REQUESTS] == 6 * 25 * 10
        assert len(ledger.committed_parts(JOB, "/scored")) == 6 * 25


def test_threads_share_one_ledger(ledger: Ledger) -> None:
    """Workers commit their parts from wherever they are."""
    registered(ledger).start_run(run_start(), next_expected_at=None)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: ledger.add_parts("run-1", JOB, [part(f"{number}.parquet")]), range(100)))
    assert ledger.state(JOB).counters[REQUESTS] == 100 * 100


@pytest.mark.parametrize("promised", [1, 8, 40])
def test_a_kill_leaves_exactly_what_was_committed(ledger_location: str, promised: int) -> None:
    """SIGKILL at whatever it is doing: what was promised is there, and counters equal the parts recorded."""
    process = writer(ledger_location, JOB, "run-1", 100_000)
    assert process.stdout is not None
    while int(process.stdout.readline()) < promised:
        pass
    process.kill()
    last = [promised, *map(int, process.stdout.read().split())][-1]
    process.wait()
    process.stdout.close()
    with Ledger.open(ledger_location) as ledger:
        ledger.register(definition(), now=2.0, next_expected_at=None)  # waits for a commit that PostgreSQL is still at
        committed = len(ledger.committed_parts(JOB, "/scored"))
        state = ledger.state(JOB)
        assert committed in {last, last + 1}
        assert state.counters[REQUESTS] == committed * 10
        assert state.running is not None
        assert state.running.rows_scored == committed * 10
        assert state.sequence == 2 + committed
