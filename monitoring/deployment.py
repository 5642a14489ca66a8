"""The configuration of the servers around batchgauge, with the addresses of one deployment put in.

The files in this repository are valid as they stand, with every server on loopback. A copy for elsewhere has these texts
replaced, wherever they occur (in comments and in the runbook's commands too): so each file stays what a person wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath

from pipelines.errors import BatchgaugeError, SpecError

_HERE = Path(__file__).resolve().parent
_DASHBOARDS = _HERE.parent / "dashboards"  # a package beside this one, also where both are installed

# What is put in goes into YAML, with and without quotes, into JSON, and through the templates of alerts and of Grafana.
_HOST_PORT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[1-9][0-9]{0,4})")
_MAX_PORT = 65_535
_SHAPES = {
    "grafana_url": (re.compile(r"https?://[^\s\"'\\{}$]+"), "a URL, as in https://grafana.example.org"),
    "runbook_url": (re.compile(r"[\w./~][^\s\"'\\{}$]*"), "a URL or path without spaces, quotes, backslashes, braces and $"),
    "secrets": (re.compile(r"/[^\x00-\x1f\"'\\{}#:]*"), "an absolute path without quotes, backslashes, braces, # and :"),
}
_INTERVAL = re.compile(r"[1-9][0-9]{0,4}(ms|s|m)")
_INTERVALS = re.compile(r"^(\s*(?:- )?(?:scrape_interval|scrape_timeout|evaluation_interval|interval):\s*)\S+", re.MULTILINE)

Files = Mapping[PurePosixPath, str]
"""A file's path in the folder of the deployment → its text."""


class DeploymentError(BatchgaugeError):
    """The files can't be read or written."""


class AddressError(SpecError):
    """An address, or an interval, is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where everything is: servers as host:port, pages as URLs, secrets as a folder. The defaults are the files' own.

    Raises `AddressError` for one that can't be put in.
    """

    prometheus: str = "127.0.0.1:9090"
    gateway: str = "127.0.0.1:9091"
    alertmanager: str = "127.0.0.1:9093"
    node_exporter: str = "127.0.0.1:9100"
    scheduler: str = "127.0.0.1:9195"
    grafana_url: str = "http://127.0.0.1:3000"
    runbook_url: str = "monitoring/RUNBOOK.md"
    secrets: str = "/etc/alertmanager/secrets"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                _check(field.name, value)

    def replacements(self) -> dict[str, str]:
        """Text in the repository's files → text in the deployment's."""
        return {str(field.default): str(getattr(self, field.name)).rstrip("/") for field in fields(self)}


def _check(name: str, value: str) -> None:
    pattern, wanted = _SHAPES.get(name, (_HOST_PORT, "host:port, as in monitoring.example.org:9091"))
    match = pattern.fullmatch(value)
    if match and not (pattern is _HOST_PORT and int(match["port"]) > _MAX_PORT):
        return
    hint = "; a scheme goes into prometheus.yml (scheme: https)" if pattern is _HOST_PORT and "://" in value else ""
    raise AddressError(f"--{name.replace('_', '-')} {value!r}: give {wanted}{hint}")


def files(addresses: Addresses, *, interval: str | None = None) -> Files:
    """Every file of a deployment: Prometheus's and Alertmanager's, the runbook, Grafana's dashboards and provisioning.

    `interval` (such as `1s`) replaces every scrape and evaluation interval of Prometheus.
    Raises `AddressError`, or `DeploymentError` when this installation lacks a file.
    """
    if interval is not None and not _INTERVAL.fullmatch(interval):
        raise AddressError(f"--scrape-interval {interval!r}: give a whole number and ms, s or m, as in 5s")
    replacements = addresses.replacements()
    # All at once: an address that is put in may be another's default.
    found = re.compile("|".join(rf"{re.escape(text)}(?![0-9])" for text in sorted(replacements, key=len, reverse=True)))
    written: dict[PurePosixPath, str] = {}
    for target, source in _sources():
        try:
            text = source.read_text(encoding="utf-8")
        except OSError as error:
            raise DeploymentError(f"{source} can't be read ({error.strerror}): install batchgauge again") from error
        text = found.sub(lambda match: replacements[match[0]], text)
        if interval is not None and _is_prometheus(target):
            text = _INTERVALS.sub(rf"\g<1>{interval}", text)
        written[target] = text
    return written


def _sources() -> Iterator[tuple[PurePosixPath, Path]]:
    """Target and source of each file. Rule tests stay here: they are about the rules, not about a deployment."""
    configuration = _HERE / "prometheus"
    for pattern in ("*.yml", "rules/*.yml"):
        yield from _below(configuration, pattern)
    yield PurePosixPath("RUNBOOK.md"), _HERE / "RUNBOOK.md"
    for pattern in ("*.json", "postgresql/*", "provisioning/**/*.y*ml"):
        for target, source in _below(_DASHBOARDS, pattern):
            yield "dashboards" / target, source


def _is_prometheus(target: PurePosixPath) -> bool:
    return target == PurePosixPath("prometheus.yml") or target.parent == PurePosixPath("rules")


def _below(folder: Path, pattern: str) -> Iterator[tuple[PurePosixPath, Path]]:
    for source in sorted(folder.glob(pattern)):
        yield PurePosixPath(source.relative_to(folder).as_posix()), source


def write(folder: Path, written: Files, *, force: bool) -> None:
    """Write the files. What is there and differs is overwritten only with `force`; without it nothing is written then.

    Raises `DeploymentError` naming the files that would be overwritten, or the one that can't be written.
    """
    differing = [] if force else [str(target) for target, text in written.items() if _differs(folder / target, text)]
    if differing:
        raise DeploymentError(f"{folder} has other files already: {', '.join(differing)}; --force overwrites them")
    for target, text in written.items():
        file = folder / target
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DeploymentError(f"{error.filename or file} can't be written: {error.strerror}") from error


def _differs(file: Path, text: str) -> bool:
    try:
        return file.read_bytes() != text.encode()
    except OSError:  # nothing there; or a folder, or not ours to read: then writing fails, and says why
        return False
