"""What many tests need: real servers, a ledger, an environment without our variables."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import hypothesis
import pytest

from monitoring import servers
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from tests.polling import poll
from tests.postgres import Postgres
from tests.ray_nodes import RayNodes, two_nodes

__all__ = ["poll"]

# How long an example takes is the machine's business: on a busy one a deadline fails by chance.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

TOOLS = "BATCHGAUGE_TOOLS"  # where this machine has its servers: a fact of the machine, not of a test


SEED = 20261126


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the fault suite takes, and where its randomness begins."""
    parser.addoption("--soak", action="store_true", help="the long form of the fault suite: thousands of tries")
    parser.addoption("--seed", type=int, default=SEED, help=f"where the fault suite's randomness begins (default: {SEED})")


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not look at it again and again."""
    gc.freeze()


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One real PostgreSQL for the session."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def ray_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """A real Ray cluster of two nodes for the module."""
    with two_nodes(tmp_path_factory.mktemp("ray")) as nodes:
        yield nodes


@pytest.fixture(params=["sqlite", "postgresql"])
def new_location(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Places for empty ledgers, in each database that can hold one."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return server.new_database
    numbers = count(1)
    return lambda: str(tmp_path / f"state-{next(numbers)}" / "ledger.db")


@pytest.fixture
def ledger_location(tmp_path: Path) -> str:
    """Where the empty ledger is. A module whose tests hold for every database replaces it by one of `new_location`."""
    return str(tmp_path / "state" / "ledger.db")


@pytest.fixture
def ledger(ledger_location: str, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    with Ledger.open(ledger_location, folder=tmp_path / "state") as opened:
        yield opened
