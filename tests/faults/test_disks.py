"""Disks that are full or read-only: a clear error, nothing half-visible, and the next run finishes the work."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring.ledger import Ledger
from pipelines.cancellation import Cancellation
from pipelines.errors import LedgerError
from pipelines.report import Outcome, RunReport
from tests.tiny_job import TinyJob

NIGHT = "2026-11-01"
ROWS = 2000
SIZE_BYTES = 4 * 2**20


def _mount(*arguments: str) -> None:
    done = subprocess.run(["/bin/mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(
            f"this test needs a small tmpfs, and may not mount one ({done.stderr.strip()}); "
            "run the suite as root, or in a name space of your own: unshare --map-root-user --mount make test"
        )


class Disk:
    """A small disk of its own at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, *, leave_bytes: int) -> None:
        """Use up all but so much of it."""
        with self._filler.open("wb", buffering=0) as file:
            room = os.statvfs(self.folder)
            file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave_bytes)))

    def empty(self) -> None:
        """Make room again."""
        self._filler.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing on it can be changed for the `with` block."""
        _mount("-o", "remount,ro", str(self.folder))
        try:
            yield
        finally:
            _mount("-o", "remount,rw", str(self.folder))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(folder))
    yield Disk(folder)
    subprocess.run(["/bin/umount", str(folder)], check=True)


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    job = TinyJob(tmp_path / "job")
    job.write_input(NIGHT, ROWS)
    return job


def go(job: TinyJob, ledger: Path) -> RunReport:
    request = RunRequest(load(job.spec), read({"BATCHGAUGE_LEDGER": str(ledger)}), logical_date=date.fromisoformat(NIGHT))
    return run(request, observer=Silent(), cancellation=Cancellation()).report


def requests(ledger: Path) -> float:
    with Ledger.open(ledger) as opened:
        return opened.state("tiny").counters["inference_requests_total", ()]


def visible_rows(folder: Path) -> list[str]:
    """The ids that a reader of the folder sees; reading fails for a file that isn't whole."""
    return [name for path in folder.rglob("[!.]*.parquet") for name in pq.read_table(path)["id"].to_pylist()]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp")]


def test_an_output_disk_that_fills_up(job: TinyJob, disk: Disk, tmp_path: Path) -> None:
    """The run fails by the name of the file, what is visible is whole and counted, and nothing temporary stays."""
    job.edit({'path = "scored/date={date}"': f'path = "{disk.folder}/scored/date={{date}}"'})
    ledger = tmp_path / "ledger.db"
    disk.fill(leave_bytes=64 * 1024)
    failed = go(job, ledger)
    assert failed.outcome is Outcome.FAILED
    assert f"output {disk.folder}/scored/" in (failed.reason or "")
    assert "No space left on device; check the folder" in (failed.reason or "")
    assert 0 < len(visible_rows(disk.folder)) == requests(ledger) < ROWS
    assert leftovers(disk.folder) == []
    disk.empty()
    assert go(job, ledger).outcome is Outcome.SUCCESS
    assert len(set(visible_rows(disk.folder))) == len(visible_rows(disk.folder)) == requests(ledger) == ROWS


def test_a_ledger_disk_that_fills_up(job: TinyJob, disk: Disk) -> None:
    """There is nowhere to record it, so the command fails; every part is scored once in the end."""
    ledger = disk.folder / "ledger.db"
    Ledger.open(ledger).close()
    disk.fill(leave_bytes=128 * 1024)
    with pytest.raises(LedgerError, match=r"ledger\.db: the disk is full; make room and run again"):
        go(job, ledger)
    disk.empty()
    assert go(job, ledger).outcome is Outcome.SUCCESS
    assert len(set(visible_rows(job.folder / "scored"))) == len(visible_rows(job.folder / "scored")) == ROWS
    assert requests(ledger) == ROWS
    with Ledger.open(ledger) as opened:
        assert [run.outcome for run in opened.runs("tiny")] in (["success", "failed"], ["success"])


def test_a_full_folder_for_temporary_files(job: TinyJob, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a run is there: temporary files lie beside their places."""
    monkeypatch.setenv("TMPDIR", str(disk.folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    disk.fill(leave_bytes=0)
    assert go(job, tmp_path / "ledger.db").outcome is Outcome.SUCCESS


def test_a_read_only_ledger(job: TinyJob, disk: Disk) -> None:
    """Said as such before anything is scored."""
    ledger = disk.folder / "ledger.db"
    Ledger.open(ledger).close()
    with disk.read_only(), pytest.raises(LedgerError, match=r"can't be written|can't be opened|can't be taken"):
        go(job, ledger)
    assert not (job.folder / "scored").exists()
    assert go(job, ledger).outcome is Outcome.SUCCESS


def test_a_read_only_output(job: TinyJob, disk: Disk, tmp_path: Path) -> None:
    """A failed run that names the folder."""
    job.edit({'path = "scored/date={date}"': f'path = "{disk.folder}/scored/date={{date}}"'})
    with disk.read_only():
        failed = go(job, tmp_path / "ledger.db")
    assert failed.outcome is Outcome.FAILED
    assert "Read-only file system; check the folder" in (failed.reason or "")
    assert go(job, tmp_path / "ledger.db").outcome is Outcome.SUCCESS
