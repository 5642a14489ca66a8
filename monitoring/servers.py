"""Real Prometheus servers on loopback, for the demo, the tests and a local stack: finding, installing, starting them.

`python -m monitoring.servers install FOLDER` unpacks Debian's packages there; no root is needed, nothing is
started and nothing outside the folder changes. Standard library only: it may run before anything is installed.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

from monitoring import packages
from monitoring.packages import MissingServer, install
from monitoring.server import PortTaken, Server, ServerFailed

__all__ = [
    "MissingServer",
    "PortTaken",
    "Server",
    "ServerFailed",
    "alertmanager",
    "find",
    "install",
    "node_exporter",
    "prometheus",
    "pushgateway",
]

_TOOLS = Path(__file__).resolve().parent.parent / ".batchgauge" / "tools"


def find(name: str) -> Path:
    """A program (a server, `promtool`, `amtool`, `chromium`), by upstream's or Debian's name.

    A folder that the variable `BATCHGAUGE_TOOLS` names comes before PATH; our own `.batchgauge/tools` beside the code
    comes last. Raises `MissingServer` with the command that installs it.
    """
    named = os.environ.get("BATCHGAUGE_TOOLS")
    return packages.find(name, [Path(named), None, _TOOLS] if named else [None, _TOOLS])


def pushgateway(*, port: int | None = None, folder: Path | None = None, web_config: Path | None = None) -> Server:
    """A Pushgateway. With a `folder` it keeps there what it holds; without one it holds it in memory only."""

    def arguments(port: int, place: Path) -> list[str]:
        # Debian's package persists to a file of its own unless told otherwise.
        file = place / "groups" if folder else ""
        kept = [f"--persistence.file={file}", "--persistence.interval=1s"]
        return [_listen(port), *kept, *([f"--web.config.file={web_config}"] if web_config else [])]

    # With TLS or a password it can't be asked whether it is ready.
    ready = None if web_config else "/-/ready"
    return Server("pushgateway", find("pushgateway"), arguments, ready=ready, port=port, folder=folder)


def prometheus(
    *,
    config: Path | None = None,
    scrape: Mapping[str, str] | None = None,
    interval: str = "1s",
    rules: Sequence[Path] = (),
    alertmanager: str | None = None,
    port: int | None = None,
    folder: Path | None = None,
) -> Server:
    """A Prometheus with the configuration file `config`; without one it is made from the rest.

    It scrapes each job's target (`host:port`) in `scrape`, with `honor_labels` as a Pushgateway needs.
    Alerts go to the Alertmanager at `alertmanager` (`host:port`), if there is one.
    """
    configuration = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {"job_name": job, "honor_labels": True, "static_configs": [{"targets": [target]}]}
            for job, target in (scrape or {}).items()
        ],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []},
    }

    def arguments(port: int, place: Path) -> list[str]:
        file = config
        if file is None:
            file = place / "prometheus.yml"
            file.write_text(json.dumps(configuration))  # JSON is YAML
        return [f"--config.file={file}", f"--storage.tsdb.path={place / 'data'}", *_page(port)]

    return Server("prometheus", find("prometheus"), arguments, port=port, folder=folder)


def alertmanager(*, config: Path, port: int | None = None, folder: Path | None = None) -> Server:
    """An Alertmanager of its own, in no cluster, with the configuration file `config`."""

    def arguments(port: int, place: Path) -> list[str]:
        return [f"--config.file={config}", f"--storage.path={place / 'data'}", "--cluster.listen-address=", *_page(port)]

    return Server("alertmanager", find("alertmanager"), arguments, port=port, folder=folder)


def node_exporter(*, textfiles: Path | None = None, port: int | None = None, folder: Path | None = None) -> Server:
    """A node_exporter: this machine's own metrics, and those in the folder `textfiles` (`*.prom`)."""

    def arguments(port: int, place: Path) -> list[str]:
        # Without a folder of its own Debian's package reads the machine's.
        return [_listen(port), f"--collector.textfile.directory={textfiles or place}"]

    return Server("node_exporter", find("node_exporter"), arguments, ready="/", port=port, folder=folder)


def _listen(port: int) -> str:
    return f"--web.listen-address=127.0.0.1:{port}"


def _page(port: int) -> list[str]:
    """Where it listens, and that links in alerts lead there: by default they name this machine as it names itself."""
    return [_listen(port), f"--web.external-url=http://127.0.0.1:{port}"]


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns the exit code: 0 installed, 1 not (and why, in plain words). Usage ends it with 2."""
    parser = ArgumentParser(prog="python -m monitoring.servers", description="Unpack Debian's packages of the servers.")
    parser.add_argument("action", choices=["install"])
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where to; nothing outside it changes")
    parser.add_argument("what", nargs="?", choices=list(packages.WHAT), default="servers", help="default: servers")
    parser.add_argument(
        "--suite", help="of this suite, such as forky, whatever is on PATH; default: this machine's, what PATH lacks"
    )
    asked = parser.parse_args(arguments)
    try:
        install(asked.folder, what=asked.what, suite=asked.suite, say=lambda line: print(line, flush=True))  # noqa: T201  it is a command
    except MissingServer as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
