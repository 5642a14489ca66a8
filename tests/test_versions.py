"""A model file over time: what it is called, and how it is replaced."""

from __future__ import annotations

import resource
import signal
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from jobs.spec import load
from pipelines import model, versions
from pipelines.errors import ModelError
from pipelines.versions import Version
from tests.tiny_job import TinyJob

OLD, NEW = b"old" * 100_000, b"new" * 100_000


def sha(content: bytes) -> str:
    return sha256(content).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "churn.safetensors"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    path = tmp_path / "candidate.safetensors"
    path.write_bytes(NEW)
    return path


def described(content: bytes, version: str = "v2") -> Version:
    return Version(version, sha(content), "v1", sha(OLD), datetime(2026, 11, 22, tzinfo=UTC), "some-id")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_model_is_called_by_what_its_content_was_described_as(tmp_path: Path) -> None:
    """Found in place of the same file, whatever the job file says; another content is called as the job file says."""
    job = TinyJob(tmp_path)
    weights = job.folder / "tiny.safetensors"
    settings = load(job.spec).model
    assert model.load(settings, job.folder).report.version == "v1"
    versions.describe(weights, described(weights.read_bytes(), "v1+2026-11-22.abc"), tag="t")
    assert model.load(settings, job.folder).report.version == "v1+2026-11-22.abc"
    (job.folder / "elsewhere.safetensors").write_bytes(weights.read_bytes())
    elsewhere = settings.model_copy(update={"weights": str(job.folder / "elsewhere.safetensors")})
    assert model.load(elsewhere, job.folder).report.version == "v1"


def test_a_damaged_description_is_an_error_that_says_what_to_do(file: Path) -> None:
    """Going by the job file's version would give two models one name."""
    versions.describe(file, described(OLD), tag="t")
    (description,) = file.parent.glob("*.versions/*.json")
    description.write_text("{")
    with pytest.raises(ModelError, match=r"\.json: can't be read \(it is damaged\); delete it"):
        versions.version_of(file, sha(OLD))
    description.unlink()
    assert versions.version_of(file, sha(OLD)) is None


def test_the_old_model_is_kept_and_the_new_one_is_in_place(file: Path, candidate: Path) -> None:
    """Both whole, with the rights of the old one, and nothing else is left."""
    file.chmod(0o640)
    versions.keep(file, sha(OLD), tag="t")
    versions.describe(file, described(NEW), tag="t")
    versions.switch(candidate, file, sha(NEW), tag="t")
    assert file.read_bytes() == NEW
    assert versions.kept(file, sha(OLD)).read_bytes() == OLD
    assert versions.version_of(file, sha(NEW)) == described(NEW)
    assert file.stat().st_mode & 0o777 == versions.kept(file, sha(OLD)).stat().st_mode & 0o777 == 0o640
    folder = f"{file.name}.versions"
    assert names(file.parent) == sorted([file.name, folder, f"{folder}/{sha(OLD)}.safetensors", f"{folder}/{sha(NEW)}.json"])


def test_what_is_kept_already_is_not_kept_twice_unless_it_is_damaged(file: Path) -> None:
    """Its name says what it must be."""
    versions.keep(file, sha(OLD), tag="t")
    place = versions.kept(file, sha(OLD))
    before = place.stat().st_ino
    versions.keep(file, sha(OLD), tag="t")
    assert place.stat().st_ino == before
    place.write_bytes(b"damaged")
    versions.keep(file, sha(OLD), tag="t")
    assert place.read_bytes() == OLD


def test_a_content_that_is_not_the_one_that_was_judged_is_not_put_in_place(file: Path, candidate: Path) -> None:
    """And nothing is left of the attempt."""
    with pytest.raises(ModelError, match="has changed meanwhile"):
        versions.switch(candidate, file, sha(b"what was judged"), tag="t")
    assert file.read_bytes() == OLD
    assert names(file.parent) == [file.name]


def test_a_disk_that_is_full_leaves_the_old_model(file: Path, candidate: Path) -> None:
    """A limit on the size of files stands in for the disk."""
    unlimited, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
        with pytest.raises(ModelError, match="check the folder, its permissions and the space"):
            versions.switch(candidate, file, sha(NEW), tag="t")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == OLD
    assert names(file.parent) == [file.name]


def test_a_reader_has_one_model_or_the_other(file: Path, candidate: Path) -> None:
    """Who had opened the old one reads it to its end."""
    with file.open("rb") as reader:
        start = reader.read(10)
        versions.switch(candidate, file, sha(NEW), tag="t")
        assert start + reader.read() == OLD
    assert file.read_bytes() == NEW


def test_what_cannot_be_switched_is_known_before(file: Path, tmp_path: Path) -> None:
    """A link, a folder, nothing at all."""
    versions.check_replaceable(file)
    link = tmp_path / "link.safetensors"
    link.symlink_to(file)
    for path, words in ((link, "is a link"), (tmp_path, "not a regular file"), (tmp_path / "absent", "No such file")):
        with pytest.raises(ModelError, match=words):
            versions.check_replaceable(path)


def test_only_what_is_ours_and_no_longer_needed_is_removed(file: Path) -> None:
    """Other files in the folder stay, and so do leftovers of those who are still at work."""
    versions.keep(file, sha(OLD), tag="t")
    versions.describe(file, described(NEW), tag="t")
    folder = versions.kept(file, sha(OLD)).parent
    others = ["notes.txt", f"{sha(OLD)}.pt2", f".{sha(OLD)}.json.other.tmp"]
    for name in others:
        (folder / name).write_text("")
    versions.prune(file, {sha(NEW)})
    versions.remove_leftovers(file, tag="t")
    assert names(folder) == sorted([*others, f"{sha(NEW)}.json"])
    versions.remove_leftovers(file, tag="other")
    assert names(folder) == sorted([*others[:2], f"{sha(NEW)}.json"])
