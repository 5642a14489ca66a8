"""Folders of job files that are read again when they change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.scheduler.folder import JobFolder
from pipelines.errors import SpecError
from tests.scheduling import SPEC


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs"
    folder.mkdir()
    return folder


def write(jobs: Path, name: str, *, file: str | None = None, schedule: str = "0 * * * *") -> Path:
    path = jobs / f"{file or name}.toml"
    path.write_text(SPEC.format(name=name, schedule=schedule, settings=""))
    return path


def opened(jobs: Path) -> JobFolder:
    folder = JobFolder([jobs], jobs.parent / "copies")
    folder.scan(at_once=True)
    return folder


def test_files_are_found_and_what_is_not_a_job_file_is_left_alone(jobs: Path) -> None:
    """Also in a folder that is still empty."""
    folder = opened(jobs)
    assert folder.jobs() == {}
    write(jobs, "b")
    write(jobs, "a", file="z")
    (jobs / "notes.txt").write_text("?")
    assert folder.scan(at_once=True)
    assert {name: file.path.name for name, file in folder.jobs().items()} == {"a": "z.toml", "b": "b.toml"}
    assert not folder.scan(at_once=True)


@pytest.mark.parametrize("name", ["a", "z"])
def test_a_renamed_file_is_the_same_job(jobs: Path, name: str) -> None:
    """Wherever its new name stands in the alphabet: for a moment two files seem to be of one job."""
    path = write(jobs, "job", file="m")
    folder = opened(jobs)
    path.rename(path.with_name(f"{name}.toml"))
    assert folder.scan(at_once=True)
    assert {job: file.path.stem for job, file in folder.jobs().items()} == {"job": name}
    assert folder.broken == ()


def test_a_change_is_believed_when_it_has_settled(jobs: Path) -> None:
    """An editor may be half-way through; a file that is away for a moment isn't gone."""
    path = write(jobs, "a")
    folder = opened(jobs)
    first = folder.jobs()["a"].spec
    write(jobs, "a", schedule="5 * * * *")
    assert not folder.scan()
    write(jobs, "a", schedule="10 10 * * *")
    assert not folder.scan()
    assert folder.jobs()["a"].spec is first
    assert folder.scan()
    second = folder.jobs()["a"].spec
    assert second is not None
    assert second.job.schedule == "10 10 * * *"
    away = path.rename(jobs / "a.swap")
    assert not folder.scan()
    away.rename(path)
    folder.scan()
    folder.scan()
    assert folder.jobs()["a"].spec is second
    path.unlink()
    folder.scan()
    assert folder.scan()
    assert folder.jobs() == {}


def test_a_broken_file_keeps_its_last_good_definition_also_for_the_next_scheduler(jobs: Path) -> None:
    """With what is wrong, in words."""
    path = write(jobs, "a")
    folder = opened(jobs)
    good = path.read_text()
    path.write_text(good.replace("schedule", "scehdule"))
    folder.scan(at_once=True)
    for one in (folder, opened(jobs)):
        (file,) = one.files
        assert file.spec is not None
        assert (file.spec.job.name, file.spec.path) == ("a", path)
        assert "did you mean 'schedule'?" in (file.error or "")
        assert file.copy.read_text() == good
    path.unlink()
    folder.scan(at_once=True)
    path.write_text("nonsense")
    folder.scan(at_once=True)
    assert folder.files[0].spec is None
    assert not list((jobs.parent / "copies").iterdir())


def test_a_name_or_an_output_is_one_files_alone(jobs: Path) -> None:
    """Who had it keeps it; the other is read again when the way is free."""
    first = write(jobs, "a", file="2")
    folder = opened(jobs)
    write(jobs, "a", file="1")
    folder.scan(at_once=True)
    clash, kept = folder.files
    assert (clash.spec, kept.error) == (None, None)
    assert f"job.name = 'a': {first} has the same" in (clash.error or "")
    other = write(jobs, "b", file="3")
    other.write_text(other.read_text().replace("b/scored", "a/scored"))
    folder.scan(at_once=True)
    assert "output.path" in (folder.files[2].error or "")
    first.unlink()
    folder.scan(at_once=True)
    assert [file.error is None for file in folder.files] == [True, False]
    write(jobs, "c", file="1")  # it has another name and another output now
    folder.scan(at_once=True)
    assert [file.error for file in folder.files] == [None, None]


def test_a_folder_that_cannot_be_listed_leaves_its_jobs_as_they_were(jobs: Path) -> None:
    """A network drive that is away for a moment must not unschedule everything."""
    write(jobs, "a")
    folder = opened(jobs)
    away = jobs.rename(jobs.with_name("away"))
    assert not folder.scan(at_once=True)
    assert set(folder.jobs()) == {"a"}
    assert "can't list the job files: No such file" in folder.unlisted[jobs]
    away.rename(jobs)
    folder.scan(at_once=True)
    assert folder.unlisted == {}


def test_a_copy_that_cannot_be_written_is_said_and_tried_again(jobs: Path) -> None:
    """A file stands where its folder should be."""
    write(jobs, "a")
    copies = jobs.parent / "copies"
    copies.write_text("in the way")
    folder = opened(jobs)
    assert "can't keep a copy" in (folder.files[0].error or "")
    assert folder.jobs() == {}
    copies.unlink()
    folder.scan(at_once=True)
    assert set(folder.jobs()) == {"a"}


def test_a_single_file_can_be_named_and_an_absent_one_is_refused(jobs: Path) -> None:
    """With its name."""
    path = write(jobs, "a")
    write(jobs, "b")
    folder = JobFolder([path], jobs.parent / "copies")
    folder.scan(at_once=True)
    assert set(folder.jobs()) == {"a"}
    with pytest.raises(SpecError, match=r"absent\.toml: no such job file or folder"):
        JobFolder([jobs / "absent.toml"], jobs.parent / "copies")


def test_a_change_of_the_same_size_is_seen(jobs: Path) -> None:
    """By its time."""
    path = write(jobs, "a", schedule="1 * * * *")
    folder = opened(jobs)
    status = path.stat()
    write(jobs, "a", schedule="2 * * * *")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert folder.scan(at_once=True)
