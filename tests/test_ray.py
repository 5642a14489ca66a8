"""Ray as an engine, on a real cluster of two nodes: the same answers as here, and each row once whatever dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest

from jobs.doctor import examine
from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring.ledger import Ledger
from monitoring.state import JobState
from pipelines.cancellation import Cancellation
from pipelines.errors import EngineError
from pipelines.report import Outcome, RunReport
from tests.polling import poll
from tests.ray_nodes import RayNodes
from tests.tiny_job import TinyJob, rows_table

NIGHT = "2026-11-21"
HERE = "/proc/self/cwd"
"""Another folder for each process: what lies there on this host, workers don't see."""


DEADLY_MODEL = """
import os
from pathlib import Path

import torch


class Deadly(torch.nn.Linear):
    def forward(self, x):
        died = Path({died!r})
        if (x > 90).any() and ({always} or not died.exists()):
            died.touch()
            os._exit(1)
        return super().forward(x)


def build():
    return Deadly(2, 2)
"""


def on_ray(job: TinyJob, address: str, *, workers: int = 2) -> None:
    """Have the job's parts worked on by the cluster."""
    job.edit({"workers = 2": f"workers = {workers}"})
    job.spec.write_text(f'{job.spec.read_text()}\n[engine]\nkind = "ray"\naddress = "{address}"\n')


def report_of(spec: Path, ledger: Path) -> RunReport:
    """A run in this process."""
    request = RunRequest(load(spec), read({"BATCHGAUGE_LEDGER": str(ledger)}), logical_date=date.fromisoformat(NIGHT))
    return run(request, observer=Silent(), cancellation=Cancellation()).report


def state(ledger: Path) -> JobState:
    with Ledger.open(str(ledger)) as opened:
        return opened.state("tiny")


def rows_of(job: TinyJob) -> pa.Table:
    return job.output(NIGHT).sort_by("id")


# Before this process is connected


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    made = TinyJob(tmp_path / "job")
    made.write_input(NIGHT, 350)
    return made


@contextmanager
def listening(*, answer: bytes) -> Iterator[str]:
    """Something else than Ray; on all interfaces, since Ray takes the host's own address for loopback's."""
    with socket.create_server(("", 0)) as server:
        server.settimeout(20)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_without_ray_at_the_address_the_run_says_so(job: TinyJob, tmp_path: Path) -> None:
    """Nobody listens, or somebody else does; nothing is loaded or scored, and the next run can."""
    on_ray(job, "127.0.0.1:1")
    report = report_of(job.spec, tmp_path / "ledger.db")
    assert report.outcome is Outcome.FAILED
    assert "engine.address '127.0.0.1:1': no Ray cluster answers there (" in str(report.reason)
    assert ":1: Connection refused); start one with 'ray start --head'" in str(report.reason)
    with listening(answer=b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        job.edit({"127.0.0.1:1": address})
        reason = str(report_of(job.spec, tmp_path / "ledger.db").reason)
    assert f"engine.address '{address}': no Ray cluster answers there (what listens at" in reason
    assert "is no Ray" in reason


def test_without_ray_installed_the_run_says_which_extra(job: TinyJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local job needs none."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "pipelines.ray_site", raising=False)
    for name in ("ray", "ray_cluster", "ray_pool"):
        monkeypatch.delitem(sys.modules, f"pipelines.engines.{name}", raising=False)
    assert report_of(job.spec, tmp_path / "ledger.db").outcome is Outcome.SUCCESS
    on_ray(job, "auto")
    assert "pip install 'batchgauge[ray]'" in str(report_of(job.spec, tmp_path / "ledger.db").reason)


def test_ray_of_another_version_is_named(ray_nodes: RayNodes) -> None:
    """The cluster's, and ours."""
    from pipelines.engines.ray_cluster import connected  # noqa: PLC0415

    ray_nodes.claim_version("2.9.0")
    with pytest.raises(EngineError, match=r"install the same versions.*Ray: 2\.9\.0.*Ray: 2\.\d"), connected(ray_nodes.address):
        pass
    ray_nodes.claim_version("")


def test_ray_is_imported_only_where_a_job_asks_for_it() -> None:
    """It takes long, and is an extra."""
    code = "import sys, jobs.run, pipelines.site; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


# Other processes


class Command:
    """`batchgauge run` as a process."""

    def __init__(self, job: TinyJob, ledger: Path) -> None:
        command = [sys.executable, "-m", "jobs.cli", "run", str(job.spec), "--date", NIGHT, "--json"]
        environment = {**os.environ, "BATCHGAUGE_LEDGER": str(ledger)}
        pipe = subprocess.PIPE
        self._job = job
        self._process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)

    def when(self, parts: int, what: Callable[[], None]) -> tuple[int, str, str]:
        """Do something once so many parts are out. Returns the exit code, stdout and stderr."""
        poll(lambda: self._process.poll() is not None or len(self._outputs()) >= parts, deadline_seconds=60)
        what()
        said, troubles = self._process.communicate(timeout=60)
        return self._process.returncode, said, troubles

    def signal(self, number: signal.Signals) -> None:
        """Send it one."""
        self._process.send_signal(number)

    def _outputs(self) -> list[Path]:
        return list((self._job.folder / "scored").rglob("[!.]*.parquet"))


@pytest.mark.timeout(240)
def test_whatever_dies_each_row_is_there_once_and_counted_once(ray_nodes: RayNodes, tmp_path: Path) -> None:
    """One run is asked to stop, one is killed, and of the third a node dies: output and counters are as if nothing had been."""
    job, ledger = TinyJob(tmp_path / "job"), tmp_path / "ledger.db"
    job.write_input(NIGHT, 1_600)
    job.slow_down(seconds_for_each_batch=0.1)
    on_ray(job, ray_nodes.address)
    first = Command(job, ledger)
    code, said, _ = first.when(2, lambda: first.signal(signal.SIGTERM))
    stopped = json.loads(said)["run"]
    assert (code, stopped["reason"]) == (143, "stopped by SIGTERM")
    assert 0 < stopped["parts_done"] < 16
    second = Command(job, ledger)
    second.when(stopped["parts_done"] + 2, lambda: second.signal(signal.SIGKILL))
    third = Command(job, ledger)
    code, said, troubles = third.when(stopped["parts_done"] + 4, ray_nodes.kill)
    ray_nodes.add()
    report = json.loads(said)["run"]
    assert (code, report["outcome"], report["reason"]) == (0, "success", None), troubles
    assert [line for line in troubles.splitlines() if not line.startswith("tiny: ")] == []
    assert "workers that were lost: 1" in " ".join(report["warnings"])
    assert report["hosts"] == [socket.gethostname()]
    assert report["resources"]["cpu_usage_ratio"] > 0
    check_as_if_nothing_had_been(job, ledger, tmp_path / "alone")


def check_as_if_nothing_had_been(job: TinyJob, ledger: Path, elsewhere: Path) -> None:
    """A local run of the same rows says the same; no temporary file stays."""
    alone = TinyJob(elsewhere)
    alone.write_input(NIGHT, 1_600)
    assert report_of(alone.spec, elsewhere / "ledger.db").outcome is Outcome.SUCCESS
    assert rows_of(job).equals(rows_of(alone))
    assert not [path for path in (job.folder / "scored").rglob("*") if path.name.startswith(".")]
    ours, theirs = state(ledger), state(elsewhere / "ledger.db")
    for name in ("inference_requests_total", "inference_batches_total"):
        assert ours.counters[name, ()] == theirs.counters[name, ()]
    assert ours.quality["labelled"].confusion == theirs.quality["labelled"].confusion


# This process is connected


@pytest.fixture(scope="module")
def address(ray_nodes: RayNodes) -> Iterator[str]:
    """This process is a driver of the cluster at it."""
    from pipelines.engines.ray_cluster import connected  # noqa: PLC0415

    with connected(ray_nodes.address):
        yield ray_nodes.address


@pytest.mark.parametrize("part_rows", [70, 1_000])
def test_a_job_says_the_same_here_and_on_ray(tmp_path: Path, address: str, part_rows: int) -> None:
    """Predictions, rejects, counts and quality, whatever the split; also of rows and files that can't be scored."""
    found = []
    for engine in ("local", "ray"):
        job = TinyJob(tmp_path / engine)
        table = rows_table(333, prefix="flawed", seed=3)
        table = table.set_column(2, "y", pa.array([None if row % 50 == 0 else row % 7 for row in range(333)], pa.float64()))
        job.write(job.folder / "inbox" / f"date={NIGHT}" / "flawed.parquet", table, group_rows=70)
        job.write_input(NIGHT, 500, group_rows=70)
        (job.folder / "inbox" / f"date={NIGHT}" / "broken.parquet").write_bytes(b"PAR1")
        job.edit({"part_rows = 100": f"part_rows = {part_rows}"})
        if engine == "ray":
            on_ray(job, address)
        report = report_of(job.spec, job.folder / "ledger.db")
        (holdout,) = report.holdouts
        counts = (report.outcome, report.parts_done, report.rows_read, dict(report.rows_rejected), report.batches)
        quality = (holdout.accuracy, holdout.recall, holdout.confusion, holdout.slices)
        rejects = sorted(path.name for path in (job.folder / "scored").rglob("_rejects/**/*.parquet"))
        found.append((rows_of(job), counts, quality, rejects, state(job.folder / "ledger.db").counters.keys()))
    local, ray = found
    assert local[0].equals(ray[0])
    assert local[1:] == ray[1:]
    assert local[1][0] is Outcome.PARTIAL


def test_auto_is_settled_once_and_kept(job: TinyJob, tmp_path: Path, address: str) -> None:
    """Workers as the cluster has room for them, rows as one of them has measured; before it, `doctor` sees the cluster."""
    on_ray(job, address)
    (engine,) = [found for found in examine(load(job.spec), read({})) if found.subject == "engine"]
    assert (engine.ok, engine.detail) == (
        True,
        f"Ray answers at {address}: the cluster has 2 nodes with 2 CPUs and 0 accelerators",
    )
    job.edit({"rows = 50": 'rows = "auto"', "workers = 2": 'workers = "auto"'})
    report = report_of(job.spec, tmp_path / "ledger.db")
    assert report.outcome is Outcome.SUCCESS
    assert report.workers == 2
    assert report.tuning is not None
    assert report.batch_rows == report.tuning.batch_rows
    assert report.tuning.batch_trials


def test_an_entrypoint_travels_to_where_it_is_not(
    job: TinyJob, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its neighbours: workers have copies of what is in its folder. One that is absent, or named by its absolute path and
    absent there, is an error that says where."""
    on_ray(job, address, workers=1)
    monkeypatch.chdir(job.folder)
    (job.folder / "neighbour.py").write_text((job.folder / "tiny.py").read_text())
    (job.folder / "tiny.py").write_text("from neighbour import build\n")
    job.edit({"[job]\n": f'[job]\nroot = "{job.folder}"\n'})
    report = report_of(Path(HERE, job.spec.name), tmp_path / "ledger.db")
    assert (report.outcome, report.reason) == (Outcome.SUCCESS, None)
    assert len(rows_of(job)) == 350
    job.edit({'"tiny.py:build"': f'"{HERE}/tiny.py:build"'})
    absolute = report_of(Path(HERE, job.spec.name), tmp_path / "ledger.db")
    assert f"entrypoint '{HERE}/tiny.py:build'" in str(absolute.reason)
    assert f"No such file or directory (on host {socket.gethostname()})" in str(absolute.reason)
    (job.folder / "tiny.py").unlink()
    missing = report_of(Path(HERE, job.spec.name), tmp_path / "ledger.db")
    assert "tiny.py can't be read: No such file or directory" in str(missing.reason)
    assert "on host" not in str(missing.reason)


@pytest.mark.parametrize("always", [False, True])
def test_a_part_that_kills_its_worker_is_tried_again_and_not_for_ever(
    job: TinyJob, tmp_path: Path, address: str, *, always: bool
) -> None:
    """Once may be chance; a part whose third worker dies is an error that names it, and what was done is kept."""
    on_ray(job, address)
    died = tmp_path / "died"
    (job.folder / "tiny.py").write_text(DEADLY_MODEL.format(died=str(died), always=always))
    table = rows_table(350, prefix="drop", seed=0)
    deadly = pa.array([99.0 if row == 250 else 0.5 for row in range(350)], pa.float64())
    job.write(job.folder / "inbox" / f"date={NIGHT}" / "drop.parquet", table.set_column(2, "y", deadly))
    report = report_of(job.spec, tmp_path / "ledger.db")
    assert died.exists()
    if not always:
        assert (report.outcome, report.reason, report.rows_read) == (Outcome.SUCCESS, None, 350)
        assert "workers that were lost: 1" in " ".join(report.warnings)
        assert rows_of(job)["id"].to_pylist() == sorted(table["id"].to_pylist())
        return
    assert report.outcome is Outcome.FAILED
    assert "part drop-2-2.parquet: 3 workers died while they had it" in str(report.reason)
    assert report.rows_read == len(rows_of(job)) == 250


def test_a_worker_with_another_torch_is_named(
    job: TinyJob, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this host has is compared with what each worker has: another one may compute something else."""
    on_ray(job, address)
    monkeypatch.setattr(
        "pipelines.engines.ray_pool.versions", lambda: (("batchgauge", version("batchgauge")), ("torch", "1.0"))
    )
    report = report_of(job.spec, tmp_path / "ledger.db")
    words = f"host {socket.gethostname()} of the Ray cluster has torch {version('torch')}, this one 1.0: install the same"
    assert (report.outcome, report.reason, report.rows_read) == (Outcome.FAILED, words, 0)


@pytest.mark.parametrize("what", ["inbox", "scored"])
def test_a_worker_that_sees_other_files_is_an_error(
    job: TinyJob, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Nothing is rejected, or taken for written, that is so for one host only."""
    on_ray(job, address, workers=1)
    monkeypatch.chdir(job.folder)
    job.edit({f'"{what}/': f'"{HERE}/{what}/'})
    report = report_of(job.spec, tmp_path / "ledger.db")
    assert report.outcome is Outcome.FAILED
    assert f"{HERE}/{what}/date={NIGHT}/" in str(report.reason)
    assert "at the same path" in str(report.reason)
    assert report.rows_read == 0
