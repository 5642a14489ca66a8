"""The manifests for Kubernetes and Airflow say what the example's job file says, and end as its run ends."""

from __future__ import annotations

import ast
import inspect
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from jobs.commands.running import schedule
from jobs.environment import PREFIX, VARIABLES, read
from jobs.scheduler.settings import Settings
from jobs.settings import seconds
from jobs.spec import load
from jobs.systemd import stop_seconds
from tests.conftest import poll

DEPLOY = Path(__file__).parent.parent / "jobs" / "examples" / "deploy"
HOME = Path("/srv/batchgauge")
DIGITS = load(DEPLOY.parent / "digits.toml")
MARGIN_SECONDS = 600
KILL_SECONDS = next(float(str(field.default)) for field in fields(Settings) if field.name == "kill_after_seconds")

CRON_JOB: dict[str, Any] = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "labels": dict},
    "spec": {
        "schedule": str,
        "timeZone": str,
        "concurrencyPolicy": str,
        "startingDeadlineSeconds": int,
        "successfulJobsHistoryLimit": int,
        "failedJobsHistoryLimit": int,
        "jobTemplate": {
            "spec": {
                "backoffLimit": int,
                "activeDeadlineSeconds": int,
                "template": {
                    "metadata": {"labels": dict},
                    "spec": {
                        "restartPolicy": str,
                        "terminationGracePeriodSeconds": int,
                        "automountServiceAccountToken": bool,
                        "securityContext": {
                            "runAsNonRoot": bool,
                            "runAsUser": int,
                            "runAsGroup": int,
                            "fsGroup": int,
                            "seccompProfile": {"type": str},
                        },
                        "containers": list,
                        "volumes": list,
                    },
                },
            }
        },
    },
}
"""The fields of `batch/v1` that the manifest uses, where they belong, and their types."""


@pytest.fixture(scope="module")
def cron_job() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = yaml.safe_load((DEPLOY / "digits.cronjob.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def pod(cron_job: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def assert_shape(value: object, shape: object, where: str) -> None:
    """Every field is known, in its place, and of its type."""
    if isinstance(shape, type):
        assert type(value) is shape, where
        return
    assert isinstance(value, dict), where
    assert isinstance(shape, dict), where
    assert value.keys() == shape.keys(), where
    for key, inside in shape.items():
        assert_shape(value[key], inside, f"{where}.{key}")


def test_the_cron_job_has_its_fields_where_kubernetes_looks_for_them(cron_job: Mapping[str, Any]) -> None:
    """A field in the wrong place is dropped in silence there."""
    assert_shape(cron_job, CRON_JOB, "CronJob")
    assert (cron_job["apiVersion"], cron_job["kind"]) == ("batch/v1", "CronJob")


def test_the_cron_job_says_what_the_job_file_says(cron_job: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
    """Schedule, zone, grace and timeout are in two places: they must agree."""
    spec, job = cron_job["spec"], DIGITS.job
    assert spec["schedule"] == job.schedule
    assert spec["timeZone"].removeprefix("Etc/") == job.timezone
    assert spec["startingDeadlineSeconds"] == job.grace
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == (job.timeout or 0) + MARGIN_SECONDS
    assert pod["terminationGracePeriodSeconds"] == stop_seconds(DIGITS)
    assert pod["containers"][0]["args"][1] == str(HOME / "jobs" / "examples" / "digits.toml")


def test_a_night_is_tried_once_and_never_beside_another(cron_job: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
    """A second try would hide that the first one failed."""
    assert cron_job["spec"]["concurrencyPolicy"] == "Forbid"
    assert cron_job["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"


def test_the_pod_is_confined_and_writes_to_volumes_only(pod: Mapping[str, Any]) -> None:
    """No root, no capability, a root file system that is read-only; ledger, data and temporary files have volumes."""
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= container["resources"].keys()
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    root = Path(DIGITS.output.path).relative_to(DEPLOY.parent.parent.parent).parents[1]
    for path in (Path(variables["BATCHGAUGE_LEDGER"]), HOME / root, Path(variables["HOME"])):
        assert any(path.is_relative_to(mount) for mount in mounts), path


def test_the_variables_of_the_manifests_are_known(pod: Mapping[str, Any], tmp_path: Path) -> None:
    """An unknown one would end every run."""
    (tmp_path / "token").write_text("secret")
    for variables in ({item["name"]: item["value"] for item in pod["containers"][0]["env"]}, operator()["env"]):
        known = {**variables, **({"BATCHGAUGE_BEARER_TOKEN_FILE": f"{tmp_path}/token"} if "HOME" in variables else {})}
        assert read(known).ledger == "/var/lib/batchgauge/ledger.db"


def batchgauge(folder: Path, text: str) -> dict[str, str]:
    """An environment where `batchgauge` is this shell script."""
    folder.mkdir(exist_ok=True)
    (folder / "batchgauge").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "batchgauge").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def in_the_pod(pod: Mapping[str, Any], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    container = pod["containers"][0]
    command = [*container["command"], *container["args"]]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (3, 0), (4, 4), (5, 0), (143, 143)])
def test_the_container_ends_as_the_run_does(pod: Mapping[str, Any], tmp_path: Path, code: int, expected: int) -> None:
    """Partial and skipped runs are no failed Jobs: the metrics judge them."""
    with in_the_pod(pod, batchgauge(tmp_path, f'echo "$@"; exit {code}')) as process:
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (expected, f"run {HOME}/jobs/examples/digits.toml --trigger cron\n")


def test_the_container_hands_a_signal_on_and_waits_for_the_end(pod: Mapping[str, Any], tmp_path: Path) -> None:
    """The run ends its batch, records itself and pushes before the container is gone."""
    heard, go = tmp_path / "heard", tmp_path / "go"
    script = f"""
        trap 'touch {heard}; while [ ! -e {go} ]; do sleep 0.02; done; echo recorded; exit 143' TERM
        touch {tmp_path}/ready
        sleep 60 > /dev/null &
        wait
    """
    with in_the_pod(pod, batchgauge(tmp_path, script)) as process:
        poll((tmp_path / "ready").exists)
        process.send_signal(signal.SIGTERM)
        poll(heard.exists)
        assert process.poll() is None
        go.touch()
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (143, "recorded\n")


def dag() -> dict[str, Any]:
    """The DAG's arguments that are plain values."""
    return _arguments("DAG")


def operator() -> dict[str, Any]:
    return _arguments("BashOperator")


def _arguments(name: str) -> dict[str, Any]:
    tree = ast.parse((DEPLOY / "digits_dag.py").read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    (call,) = (node for node in calls if isinstance(node.func, ast.Name) and node.func.id == name)
    return {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}


def _value(node: ast.expr) -> object:
    """A plain value; of a call its last argument: the zone of a start date, the seconds of a duration."""
    if isinstance(node, ast.Call):
        return _value([*node.args, *(keyword.value for keyword in node.keywords)][-1])
    value: object = ast.literal_eval(node)
    return value


def test_the_dag_says_what_the_job_file_says() -> None:
    """Schedule, zone and timeout; one run at a time, tried once, and no old night by itself."""
    job, found = DIGITS.job, dag()
    assert (found["schedule"], ZoneInfo(found["start_date"])) == (job.schedule, ZoneInfo(job.timezone))
    assert (found["catchup"], found["max_active_runs"], operator()["retries"]) == (False, 1, 0)
    assert operator()["execution_timeout"] == (job.timeout or 0) + MARGIN_SECONDS


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (3, 0), (5, 5), (143, 143)])
def test_the_task_ends_as_the_run_does(tmp_path: Path, code: int, expected: int) -> None:
    """A partial run is a success; a skipped one keeps its code, which Airflow is told to show as skipped."""
    environment = batchgauge(tmp_path, f'echo "$@"; exit {code}')
    command = ["bash", "-c", operator()["bash_command"]]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (expected, f"run {HOME}/jobs/examples/digits.toml --trigger cron\n")
    assert operator()["skip_on_exit_code"] == 5


@pytest.fixture(scope="module")
def scheduler_unit() -> Mapping[str, list[str]]:
    """The keys of the unit's [Service], each with its values."""
    text = (
        (DEPLOY / "batchgauge-schedule.service").read_text(encoding="utf-8").partition("[Service]")[2].partition("[Install]")[0]
    )
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_the_schedulers_unit_starts_it_as_it_wants_to_be_started(scheduler_unit: Mapping[str, list[str]]) -> None:
    """Its options and variables exist."""
    _, command, folder, *options = scheduler_unit["ExecStart"][0].split()
    assert (command, folder) == ("schedule", "/srv/batchgauge/jobs")
    known = {f"--{name.replace('_', '-')}" for name in inspect.signature(schedule).parameters}
    assert {option for option in options if option.startswith("--")} <= known
    variables = dict(value.split("=", 1) for value in scheduler_unit["Environment"])
    assert set(variables) <= {PREFIX + name for name in VARIABLES}
    credential = scheduler_unit["LoadCredential"][0].partition(":")[0]
    assert variables["BATCHGAUGE_ALERTS_TOKEN_FILE"] == f"%d/{credential}"


def test_the_schedulers_unit_leaves_runs_to_the_scheduler(scheduler_unit: Mapping[str, list[str]]) -> None:
    """It has the time to stop them, and they outlive its crash."""
    options = scheduler_unit["ExecStart"][0].split()
    runs_stop, last_sync = seconds(options[options.index("--shutdown-timeout") + 1]) + KILL_SECONDS, KILL_SECONDS
    assert scheduler_unit["KillMode"] == ["process"]
    assert float(scheduler_unit["TimeoutStopSec"][0]) > runs_stop + last_sync
