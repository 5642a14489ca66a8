"""What many tests need: real servers, a ledger, an environment without our variables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest

from monitoring import servers
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger

# How long an example takes is the machine's business: on a busy one a deadline fails by chance.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

T = TypeVar("T")

TOOLS = "BATCHGAUGE_TOOLS"  # where this machine has its servers: a fact of the machine, not of a test


SEED = 20261126


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the fault suite takes, and where its randomness begins."""
    parser.addoption("--soak", action="store_true", help="the long form of the fault suite: thousands of tries")
    parser.addoption("--seed", type=int, default=SEED, help=f"where the fault suite's randomness begins (default: {SEED})")


def poll(condition: Callable[[], T], *, deadline_seconds: float = 30.0) -> T:
    """What `condition` returns once that is true. Fails when it isn't within the deadline."""
    end = time.monotonic() + deadline_seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not true within {deadline_seconds:g} s; last: {result!r}"
        time.sleep(0.02)
    return result


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees this shell's settings; what a test sets is undone."""
    for name in list(os.environ):
        if name.startswith("BATCHGAUGE_") and name != TOOLS:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def pushgateway_server() -> Iterator[servers.Server]:
    """One real Pushgateway for the session, in memory only."""
    with servers.pushgateway() as server:
        yield server


@pytest.fixture
def pushgateway(pushgateway_server: servers.Server) -> Iterator[servers.Server]:
    """The Pushgateway, without any group before and after the test."""
    gateway = Gateway(pushgateway_server.url)
    yield pushgateway_server
    for group in gateway.groups():
        gateway.delete(group.labels)


@pytest.fixture(scope="session")
def prometheus(pushgateway_server: servers.Server) -> Iterator[servers.Server]:
    """A real Prometheus that scrapes the Pushgateway every second."""
    with servers.prometheus(scrape={"pushgateway": pushgateway_server.url.removeprefix("http://")}) as server:
        yield server


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    with Ledger.open(tmp_path / "state" / "ledger.db") as opened:
        yield opened
