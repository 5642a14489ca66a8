"""The command, as a process: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from monitoring.ledger import Ledger
from monitoring.servers import Server
from tests.tiny_job import MODEL, TinyJob

NIGHT = "2026-11-01"


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    return TinyJob(tmp_path / "job")


class Command:
    """`batchgauge` with a ledger of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.environment = {**os.environ, "BATCHGAUGE_LEDGER": str(folder / "ledger.db"), **variables}
        self.folder = folder

    def __call__(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "batchgauge"), *map(str, arguments)]
        return subprocess.run(
            command, env=self.environment, cwd=cwd or self.folder, capture_output=True, text=True, timeout=100, check=False
        )

    def json(self, *arguments: str | Path) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def batchgauge(tmp_path: Path) -> Command:
    return Command(tmp_path)


def run_night(batchgauge: Command, job: TinyJob, *options: str) -> subprocess.CompletedProcess[str]:
    return batchgauge("run", job.spec, "--date", NIGHT, *options)


def test_a_run_prints_a_summary_and_its_traces_are_there(batchgauge: Command, job: TinyJob) -> None:
    """Then list, status and history know it."""
    job.write_input(NIGHT, 350)
    done = run_night(batchgauge, job)
    assert done.returncode == 0, done.stderr
    assert "350 scored, 0 rejected" in done.stdout
    assert "accuracy 0.950 (0.91–0.97)" in done.stdout
    assert "no gateway" in done.stdout
    assert [item["job"] for item in batchgauge.json("list")] == ["tiny"]
    status = batchgauge.json("status", "tiny")
    assert (status["state"], status["latest"]["rows_scored"]) == ("success", 350)
    history = batchgauge.json("history", "tiny")
    assert [run["outcome"] for run in history] == ["success"]
    for command in (["list"], ["status", "tiny"], ["history", "tiny"]):
        assert "success" in batchgauge(*command).stdout


def test_json_on_stdout_is_nothing_but_json(batchgauge: Command, job: TinyJob) -> None:
    """Messages go to stderr."""
    job.write_input(NIGHT, 100)
    document = json.loads(run_night(batchgauge, job, "--json").stdout)
    assert document["run"]["rows_scored"] == 100
    assert document["run"]["holdouts"][0]["accuracy"][0] == pytest.approx(0.95)
    assert document["push"] == {"delivered": False, "error": None}  # there is nowhere to push to


def test_exit_codes(batchgauge: Command, job: TinyJob) -> None:
    """0 success, 1 failed, 2 usage, 3 partial, 4 breach when asked."""
    assert run_night(batchgauge, job).returncode == 1
    job.write_input(NIGHT, 100)
    assert run_night(batchgauge, job).returncode == 0
    assert run_night(batchgauge, job, "--fail-on-breach").returncode == 0
    assert batchgauge("run", job.spec, "--date", "yesterday").returncode == 2
    assert batchgauge("run", job.folder / "absent.toml").returncode == 2
    job.edit({"accuracy = 0.9": "accuracy = 0.99"})
    breached = run_night(batchgauge, job, "--fail-on-breach")
    assert breached.returncode == 4
    assert "accuracy 0.95 is below the threshold of 0.99" in breached.stdout
    (job.folder / "inbox" / f"date={NIGHT}" / "bad.parquet").write_bytes(b"PAR1")
    assert run_night(batchgauge, job).returncode == 3


def test_a_job_that_is_running_exits_5(batchgauge: Command, job: TinyJob) -> None:
    """And says so."""
    job.write_input(NIGHT, 100)
    with Ledger.open(batchgauge.folder / "ledger.db") as ledger, ledger.lock("run", "tiny"):
        done = run_night(batchgauge, job)
    assert done.returncode == 5
    assert "skipped" in done.stdout
    assert "the job is already running" in done.stdout


def test_a_jobs_words_are_no_markup(batchgauge: Command, job: TinyJob) -> None:
    """Brackets in a version or an error must neither vanish nor break the summary."""
    job.edit({'version = "v1"': 'version = "v1 [/x] [red]"'})
    job.write_input(NIGHT, 100)
    done = run_night(batchgauge, job)
    assert done.returncode == 0, done.stderr
    assert "v1 [/x] [red] (safetensors" in done.stdout


def test_what_a_model_prints_is_not_in_the_report(batchgauge: Command, job: TinyJob) -> None:
    """Stdout stays JSON whatever the model's author left in the code."""
    job.write_input(NIGHT, 100)
    (job.folder / "tiny.py").write_text(MODEL.replace("def build():", "def build():\n    print('debugging')"))
    done = run_night(batchgauge, job, "--json")
    assert json.loads(done.stdout)["run"]["outcome"] == "success"
    assert "debugging" in done.stderr


@pytest.mark.parametrize("redirection", ["> /dev/full", "| true", ">&-"])
def test_a_report_that_cannot_be_printed_changes_no_exit_code(batchgauge: Command, job: TinyJob, redirection: str) -> None:
    """The run was good, and it is recorded."""
    job.write_input(NIGHT, 100)
    command = f"batchgauge run {job.spec} --date {NIGHT} {redirection}; exit ${{PIPESTATUS[0]}}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = batchgauge.environment | {"PATH": path, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(["/bin/bash", "-c", command], env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_a_list_that_cannot_be_printed_is_an_error_and_a_reader_that_left_is_not(batchgauge: Command, job: TinyJob) -> None:
    """A script that keeps the list must not take an empty file for an answer."""
    batchgauge("register", job.spec)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for redirection, code, words in (("> /dev/full", 1, "could not be printed"), ("| true", 0, ""), (">&-", 0, "")):
        command = f"batchgauge list --json {redirection}; exit ${{PIPESTATUS[0]}}"
        variables = batchgauge.environment | {"PATH": path}
        done = subprocess.run(["/bin/bash", "-c", command], env=variables, capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert words in done.stderr


def test_it_works_from_a_folder_with_a_jobs_folder_of_its_own(batchgauge: Command, job: TinyJob, tmp_path: Path) -> None:
    """The current folder is nobody's package."""
    elsewhere = tmp_path / "elsewhere"
    for package in ("jobs", "pipelines", "monitoring"):
        (elsewhere / package).mkdir(parents=True)
        (elsewhere / package / "__init__.py").write_text("raise SystemExit('wrong package')")
    job.write_input(NIGHT, 100)
    done = batchgauge("run", job.spec, "--date", NIGHT, cwd=elsewhere)
    assert done.returncode == 0, done.stderr


def test_errors_are_one_message_and_no_traceback(batchgauge: Command, job: TinyJob) -> None:
    """On stderr, with what to do."""
    job.edit({"version": "versoin"})
    done = batchgauge("validate", job.spec)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'version'?" in done.stderr
    unknown = batchgauge("status", "tyni")
    assert unknown.returncode == 1
    assert "Traceback" not in unknown.stderr
    assert "tyni" in unknown.stderr


def test_validate_reports_every_file(batchgauge: Command, job: TinyJob) -> None:
    """Good and bad, as text and as JSON."""
    assert "ok, job 'tiny'" in batchgauge("validate", job.spec).stdout
    (job.folder / "broken.toml").write_text("= 1")
    done = batchgauge("validate", job.folder, "--json")
    assert done.returncode == 2
    assert [(Path(row["spec"]).name, row["job"]) for row in json.loads(done.stdout)] == [
        ("broken.toml", None),
        ("tiny.toml", "tiny"),
    ]


def test_register_push_and_forget(batchgauge: Command, job: TinyJob, pushgateway: Server) -> None:
    """A registered job has its zeros in the gateway; a forgotten one is gone from gateway and ledger."""
    batchgauge.environment["BATCHGAUGE_GATEWAY"] = pushgateway.url
    assert batchgauge.json("register", job.spec)[0]["error"] is None
    assert batchgauge.json("push")[0]["destinations"] == [pushgateway.url]
    assert batchgauge("forget", "tiny").returncode == 1  # nobody said yes
    assert batchgauge("forget", "tiny", "--yes").returncode == 0
    assert batchgauge.json("list") == []


def test_schema_and_doctor(batchgauge: Command, job: TinyJob) -> None:
    """The schema is JSON Schema; the doctor says what is missing and exits 1 for it."""
    assert json.loads(batchgauge("schema").stdout)["properties"].keys() >= {"job", "model", "input"}
    assert batchgauge("doctor").returncode == 0
    done = batchgauge("doctor", job.spec, "--json")
    found = {finding["subject"]: finding["ok"] for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found == {
        "packages": True,
        "ledger": True,
        "gateway": False,
        "model": True,
        "input": False,
        "output": True,
        "holdout labelled": True,
    }


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["list"], ["validate", "SPEC"], ["status", "tiny"]]
)
def test_quick_commands_import_nothing_heavy(batchgauge: Command, job: TinyJob, arguments: list[str]) -> None:
    """No torch, pandas or pyarrow before a run; a list, which is asked for most, knows no HTTP client either."""
    assert batchgauge("register", job.spec).returncode == 0
    filled = [str(job.spec) if argument == "SPEC" else argument for argument in arguments]
    command = [sys.executable, "-X", "importtime", "-m", "jobs.cli", *filled]
    done = subprocess.run(command, env=batchgauge.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "import time" in line}
    assert "typer" in imported
    assert not imported & {"torch", "pandas", "pyarrow", "numpy"}
    assert arguments != ["list"] or "httpx" not in imported


def test_every_command_is_in_the_readme() -> None:
    """An undocumented command is half a command."""
    from jobs.cli import app  # noqa: PLC0415  only this test needs it
    from jobs.reference import README  # noqa: PLC0415

    text = README.read_text(encoding="utf-8")
    names = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    names += [group.name or "" for group in app.registered_groups]
    assert {"run", "stack"} <= set(names)
    assert [name for name in names if f"`batchgauge {name}" not in text] == []
