"""What the ledger keeps beside jobs and runs: groups that were pushed, and what was measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from monitoring.gateway import Gateway
from monitoring.ledger import Ledger, counters, tunings
from monitoring.push import deliver, forget
from monitoring.servers import Server
from monitoring.state import Destination, PushedGroup
from pipelines.errors import PushError
from tests.faults.server import FaultServer, answer
from tests.reports import JOB, definition


@pytest.fixture
def ledger_location(new_location: Callable[[], str]) -> str:
    """Every test of this module, on every database."""
    return new_location()


def register(ledger: Ledger, destination: Destination, job: str = JOB) -> None:
    ledger.register(definition(job, destination=destination), now=1.0, next_expected_at=None)


def shown(ledger: Ledger) -> list[tuple[str, float, float]]:
    return [(record.group.labels.get("env", ""), record.since, record.pushed_at) for record in ledger.pushed_groups()]


def test_a_group_is_known_from_before_it_is_sent_until_it_was_deleted(ledger: Ledger, pushgateway: Server) -> None:
    """Also when the gateway's answer was lost: the group may be there."""
    with FaultServer(answer("503 Busy")) as down:
        register(ledger, Destination(gateway=down.url, labels={"env": "a"}, timeout_seconds=0.2))
        with pytest.raises(PushError):
            deliver(ledger, JOB, clock=lambda: 4.0)
        with pytest.raises(PushError):
            deliver(ledger, JOB, clock=lambda: 5.0)
        assert shown(ledger) == [("a", 4.0, 5.0)]
        lost = ledger.pushed_groups()[0].group
    register(ledger, Destination(gateway=pushgateway.url, labels={"env": "b"}))
    deliver(ledger, JOB, clock=lambda: 6.0)
    assert ("b", 6.0, 6.0) in shown(ledger)
    register(ledger, Destination(gateway=pushgateway.url, labels={"env": "c"}))
    deliver(ledger, JOB, clock=lambda: 7.0)
    assert sorted(shown(ledger)) == [("a", 4.0, 5.0), ("c", 7.0, 7.0)]
    forget(ledger, JOB)
    assert [record.group for record in ledger.pushed_groups()] == [lost]
    assert Gateway(pushgateway.url).groups() == ()
    ledger.drop_group(lost)
    assert ledger.pushed_groups() == ()


def test_the_same_labels_in_another_order_are_the_same_group(ledger: Ledger) -> None:
    """As they are for the gateway."""
    register(ledger, Destination())
    for at, labels in ((1.0, {"job": JOB, "a": "1", "b": "ü"}), (2.0, {"b": "ü", "job": JOB, "a": "1"})):
        ledger.note_push(JOB, PushedGroup("http://gateway", labels), ca_file="/ca.pem", at=at)
    (record,) = ledger.pushed_groups()
    assert (record.since, record.pushed_at, record.ca_file, record.job) == (1.0, 2.0, "/ca.pem", JOB)


def test_a_tuning_is_kept_until_the_next(ledger: Ledger) -> None:
    """For each model on each machine."""
    assert ledger.tuning("m", "x") is None
    ledger.keep_tuning("m", "x", '{"rows": 1}', at=1.0)
    ledger.keep_tuning("m", "y", '{"rows": 2}', at=2.0)
    ledger.keep_tuning("m", "x", '{"rows": 3}', at=3.0)
    assert (ledger.tuning("m", "x"), ledger.tuning("m", "y"), ledger.tuning("n", "x")) == ('{"rows": 3}', '{"rows": 2}', None)


def test_tunings_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those measured first are let go."""
    monkeypatch.setattr(tunings, "KEPT", 3)
    for number in (5, 1, 4, 2, 3):
        ledger.keep_tuning(f"m{number}", "x", "{}", at=float(number))
    assert [number for number in range(1, 6) if ledger.tuning(f"m{number}", "x")] == [3, 4, 5]


def test_a_defect_of_ours_is_no_damage(ledger: Ledger) -> None:
    """It shows as what it is, with its traceback; nothing was recorded."""
    register(ledger, Destination())
    with pytest.raises(ValueError, match="would fall"), ledger._store.write(JOB) as connection:
        counters.add(connection, JOB, {("inference_requests_total", ()): -1})
    assert ledger.state(JOB).counters["inference_requests_total", ()] == 0
