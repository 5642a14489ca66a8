"""Whether the scheduler lives, and whether it works, for whoever watches over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
from starlette.applications import Starlette

from jobs.scheduler import Snapshot
from jobs.web.health import STALLED_SECONDS, health_routes
from monitoring.names import SCHEDULER_JOBS
from tests.test_scheduler_metrics import FIGURES
from tests.web import served

WELL = Snapshot(began_at=0.0, max_running=1, turned_at=1000.0, ready=True)


@contextmanager
def asked(snapshot: Snapshot, *, now: float = 1001.0) -> Iterator[Callable[[str], httpx.Response]]:
    routes = health_routes(lambda: snapshot, lambda: FIGURES, clock=lambda: now)
    with served(Starlette(routes=routes)) as url:
        yield lambda path: httpx.get(f"{url}{path}", trust_env=False)


@pytest.mark.parametrize(
    ("snapshot", "now", "lives", "works", "words"),
    [
        (WELL, 1001.0, True, True, ""),
        (WELL, 1000.0 + STALLED_SECONDS + 1, False, False, "the loop has not come round for 61 s"),
        (replace(WELL, ready=False), 1001.0, True, False, "starting or stopping"),
        (replace(WELL, ready=False, standing_by=True), 1001.0, True, False, "another scheduler is at work on the ledger"),
        (replace(WELL, trouble="ledger x: is locked"), 1001.0, True, False, "ledger x: is locked"),
    ],
)
def test_alive_and_ready_are_two_things(snapshot: Snapshot, now: float, lives: bool, works: bool, words: str) -> None:  # noqa: FBT001
    """A ledger that is locked is no reason to restart the scheduler."""
    with asked(snapshot, now=now) as get:
        assert get("/healthz").status_code == (200 if lives else 503)
        ready = get("/readyz")
    assert ready.status_code == (200 if works else 503)
    assert ready.json()["ok"] is works
    assert words in " ".join(ready.json()["reasons"])


def test_its_figures_are_in_prometheus_format() -> None:
    """As text of version 0.0.4, which every Prometheus reads."""
    with asked(WELL) as get:
        answer = get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f"{SCHEDULER_JOBS.name} 3.0\n" in answer.text
