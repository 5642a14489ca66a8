"""What a run needs, looked at one by one: each finding is a fact, and if it is bad, what to do."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jobs.environment import Environment
from jobs.spec import JobSpec
from monitoring.gateway import Gateway
from pipelines.errors import BatchgaugeError
from pipelines.uris import is_uri

PACKAGES = ("torch", "pyarrow", "prometheus_client", "apscheduler", "pandas")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    ok: bool
    detail: str

    def document(self) -> dict[str, Any]:
        """For a machine."""
        return {"subject": self.subject, "ok": self.ok, "detail": self.detail}


def examine(spec: JobSpec | None, environment: Environment) -> list[Finding]:
    """Everything, in the order in which a run would need it. Never raises for what it finds."""
    findings = [_packages(), _look("ledger", lambda: _ledger(environment))]
    if spec is None:
        gateways = environment.gateways or ()
        return [*findings, *(_look("gateway", partial(_gateway, url, environment.ca_file, environment)) for url in gateways)]
    destination = spec.destination(environment)
    if destination.gateway:
        findings.append(_look("gateway", lambda: _gateway(destination.gateway, destination.ca_file, environment)))
    if destination.textfile:
        findings.append(_look("textfile", lambda: _writable(destination.textfile or "")))
    if not (destination.gateway or destination.textfile):
        findings.append(Finding("gateway", ok=False, detail="none: set push.gateway, push.textfile or BATCHGAUGE_GATEWAY"))
    return [*findings, *_job(spec)]


def _look(subject: str, question: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, ok=True, detail=question())
    except (BatchgaugeError, OSError, ValueError) as error:
        return Finding(subject, ok=False, detail=str(error))


def _packages() -> Finding:
    try:
        found = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    except PackageNotFoundError as error:
        return Finding("packages", ok=False, detail=f"{error.name} is missing: pip install batchgauge")
    return Finding("packages", ok=True, detail=f"Python {platform.python_version()}, {found}")


def _ledger(environment: Environment) -> str:
    with environment.open_ledger() as ledger:
        return f"{ledger.location}, {len(ledger.jobs())} jobs"


def _gateway(url: str | None, ca_file: str | None, environment: Environment) -> str:
    Gateway(url or "", credentials=environment.credentials, ca_file=ca_file, timeout_seconds=5.0).ready()
    return f"{url} is ready"


def _job(spec: JobSpec) -> Iterator[Finding]:
    today = spec.for_date(spec.logical_date(datetime.now(UTC)))
    yield _look("model", lambda: _model(today))
    if today.engine.kind != "local":
        yield _look("engine", lambda: _engine(today))
    yield _look("input", lambda: _found(today.input.path))
    yield _look("output", lambda: _output(today.output.path))
    for holdout in today.holdout:
        path = holdout.path
        yield _look(f"holdout {holdout.name}", lambda path=path: _found(path))  # type: ignore[misc]  # bound now, not later
    if today.retrain is not None:
        reference = today.retrain.entrypoint
        yield _look("retrain", lambda: _trainable(today, reference))


def _model(spec: JobSpec) -> str:
    from pipelines.scoring import Scorer  # noqa: PLC0415  brings in torch

    model = Scorer(spec, spec.folder).model
    return f"{model.version}: {model.format}, {model.parameters:,} parameters, on {model.device}, sha256 {model.sha256[:12]}"


def _engine(spec: JobSpec) -> str:
    from pipelines.site import machines  # noqa: PLC0415  brings in torch

    return machines(spec.engine)


def _trainable(spec: JobSpec, reference: str) -> str:
    from pipelines import entrypoint, versions  # noqa: PLC0415  runs the user's file

    entrypoint.load(reference, spec.folder)
    versions.check_replaceable(spec.model_file)
    return f"{reference} can be called, {spec.model_file} can be switched"


def _found(path: str) -> str:
    from pipelines.finding import find_files  # noqa: PLC0415  brings in pyarrow

    files = find_files(path)
    if not files:
        raise FileNotFoundError(f"{path}: no Parquet files")
    return f"{path}: {len(files)} file{'s' if len(files) != 1 else ''}"


def _output(path: str) -> str:
    if not is_uri(path):
        return _writable(path)
    from pipelines.objects import ObjectPath, place  # noqa: PLC0415  brings in pyarrow

    folder = place(path)
    assert isinstance(folder, ObjectPath)  # that is what a URI is of
    return f"{path}: {len(folder.files())} objects; whether it can be written, only a run shows"


def _writable(path: str) -> str:
    """The folder, or the first of its parents that exists, can be written."""
    place = Path(path)
    while not place.exists() and place != place.parent:
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise PermissionError(f"{path}: {place} can't be written by this user")
    return f"{path} can be written"
