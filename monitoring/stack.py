"""The servers around batchgauge on one machine, with this repository's configuration: for a first look, tests, a demo.

Pushgateway, node_exporter, Alertmanager and Prometheus on loopback, in one folder that keeps their data from one start
to the next. They end with the block, and are killed with us should we be killed.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from monitoring import deployment, servers, stack_record, stack_token
from monitoring.deployment import AddressError, Addresses
from monitoring.server import PortTaken, Server, ServerFailed, free_port
from monitoring.stack_record import Record, StackError

DEFAULT_PORTS = {"prometheus": 9090, "pushgateway": 9091, "alertmanager": 9093, "node_exporter": 9100}
SCHEDULER = Addresses().scheduler

_ATTEMPTS = 5
_TARGETS_SECONDS = 60.0
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Target:
    """What Prometheus scrapes: `health` is up, down or unknown (not scraped yet); `error` says why it is down."""

    job: str
    address: str
    health: str
    error: str


class Stack:
    """The servers from `with` to the end of the block: when entered, they are ready and Prometheus has scraped each.

    `folder` has their data (kept), the configuration in `config` (written anew each time), and `textfile`, which
    node_exporter reads unless `textfiles` names another. `interval` is that of every scrape and evaluation. A port that is
    taken is exchanged for a free one; without `default_ports` all are free ones. `scheduler` is where batchgauge's own is, if
    it runs: Prometheus scrapes it, and Alertmanager shows it the token in `token_file` with what may start a retraining.

    Entering raises `StackError` when a stack runs in this folder already, `MissingServer` with the command that installs
    what is missing, and `ServerFailed` with the words of a server that doesn't come up.
    """

    gateway: Server
    node_exporter: Server
    alertmanager: Server
    prometheus: Server

    def __init__(
        self,
        folder: Path,
        *,
        interval: str = "5s",
        default_ports: bool = True,
        textfiles: Path | None = None,
        scheduler: str = SCHEDULER,
    ) -> None:
        self.folder = folder.absolute()
        self.token_file = stack_token.file(self.folder)
        self.textfiles = textfiles.absolute() if textfiles else self.folder / "textfile"
        self.leftover: Record | None = None  # the stack that was killed here before, if one was
        self._interval = interval
        self._default_ports = default_ports
        self._scheduler = scheduler
        self._opened = ExitStack()

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers, in the order in which they were started."""
        return self.gateway, self.node_exporter, self.alertmanager, self.prometheus

    def __enter__(self) -> Self:
        try:
            with ExitStack() as opened:
                self._open(opened)
                self._opened = opened.pop_all()
        except OSError as error:
            raise stack_record.unusable(self.folder, error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def check(self) -> None:
        """Raise `ServerFailed`, with its last words, when a server has ended."""
        for server in self.servers:
            if server.how_it_ended:
                raise ServerFailed(f"{server.name} has ended ({server.how_it_ended}); its last words:\n{server.last_words}")

    def targets(self) -> list[Target]:
        """What Prometheus scrapes, and how that goes."""
        return targets(self.prometheus.url)

    def _open(self, opened: ExitStack) -> None:
        opened.enter_context(stack_record.locked(self.folder, wait_seconds=1.0))
        self.leftover = stack_record.end_leftovers(self.folder)
        opened.callback(stack_record.remove, self.folder)
        stack_record.write(self.folder, stack_record.ours())
        self._start(opened)
        stack_record.write(self.folder, stack_record.ours(self.servers))
        self._await_targets()
        stack_record.write(self.folder, stack_record.ours(self.servers, ready=True))

    def _start(self, opened: ExitStack) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            with ExitStack() as started:
                try:
                    self._start_servers(started)
                except PortTaken:  # by somebody who was quicker than we
                    if attempt == _ATTEMPTS:
                        raise
                else:
                    opened.push(started.pop_all())
                    return

    def _start_servers(self, started: ExitStack) -> None:
        """Choose ports, write the configuration with them, and start: what is scraped comes before who scrapes."""
        ports = {name: free_port(port if self._default_ports else 0) for name, port in DEFAULT_PORTS.items()}
        config = self._write_configuration(ports)
        places = {name: self.folder / name for name in DEFAULT_PORTS}

        self.gateway = started.enter_context(servers.pushgateway(port=ports["pushgateway"], folder=places["pushgateway"]))
        self.node_exporter = started.enter_context(
            servers.node_exporter(textfiles=self.textfiles, port=ports["node_exporter"], folder=places["node_exporter"])
        )
        self.alertmanager = started.enter_context(
            servers.alertmanager(config=config / "alertmanager.yml", port=ports["alertmanager"], folder=places["alertmanager"])
        )
        self.prometheus = started.enter_context(
            servers.prometheus(config=config / "prometheus.yml", port=ports["prometheus"], folder=places["prometheus"])
        )

    def _write_configuration(self, ports: dict[str, int]) -> Path:
        config = self.folder / "config"
        deployment.write(config, deployment.files(self._addresses(ports, config), interval=self._interval), force=True)
        self.textfiles.mkdir(parents=True, exist_ok=True)
        stack_token.ensure(self.token_file)
        return config

    def _addresses(self, ports: dict[str, int], config: Path) -> Addresses:
        at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        try:
            return Addresses(
                prometheus=at["prometheus"],
                gateway=at["pushgateway"],
                alertmanager=at["alertmanager"],
                node_exporter=at["node_exporter"],
                scheduler=self._scheduler,
                runbook_url=(config / "RUNBOOK.md").as_uri(),
                secrets=str(self.token_file.parent),
            )
        except AddressError as error:  # all but the folder is ours
            wanted = "without quotes, backslashes, braces, # and :"
            raise AddressError(
                f"folder {self.folder} can't be put into Alertmanager's configuration: name one {wanted}"
            ) from error

    def _await_targets(self) -> None:
        """Wait until Prometheus has scraped each of our servers. The scheduler is none of them."""
        deadline = time.monotonic() + _TARGETS_SECONDS + 2 * _seconds(self._interval)
        waiting = {server.address: "not scraped yet" for server in self.servers}
        while waiting:
            self.check()
            if time.monotonic() > deadline:
                raise StackError(f"Prometheus can't scrape {'; '.join(f'{at}: {why}' for at, why in waiting.items())}")
            time.sleep(0.05)
            seen = {target.address: target for target in self.targets()}
            scraped = {address for address, target in seen.items() if target.health == "up"}
            waiting = {at: seen[at].error if at in seen else why for at, why in waiting.items() if at not in scraped}


def targets(prometheus: str) -> list[Target]:
    """What the Prometheus at that URL scrapes. Raises `StackError` when it doesn't answer."""
    url = f"{prometheus}/api/v1/targets?state=active"
    try:
        answer = httpx.get(url, trust_env=False, timeout=5.0).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise StackError(f"{url} gives no answer: {error}") from error
    return [
        Target(target["labels"]["job"], target["discoveredLabels"]["__address__"], target["health"], target["lastError"])
        for target in answer["data"]["activeTargets"]
    ]


def _seconds(interval: str) -> float:
    unit = interval.lstrip("0123456789")
    return int(interval.removesuffix(unit)) * _SECONDS[unit]
