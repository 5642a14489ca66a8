"""Folders of job files, read again when they change. A file that breaks leaves its last good definition in force.

The text of each good definition is kept beside the ledger: runs read that copy, so a run does what the scheduler has
read, whatever an editor does to the file meanwhile, and a restart finds the last good definition of a broken file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from jobs.catalogue import own, shared
from jobs.spec import JobSpec, load
from monitoring.filenames import of_job
from pipelines.errors import SpecError

Signature = tuple[int, int, int]
"""Modification time, size and inode of a file."""


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job file: its last good definition (None: there is none), and what is wrong with it as it is now."""

    path: Path
    copy: Path
    spec: JobSpec | None
    error: str | None


class JobFolder:
    """The job files named, and those in the folders named (which may be empty). `copies` is the folder for the copies."""

    def __init__(self, paths: Iterable[Path], copies: Path) -> None:
        named = [path.absolute() for path in paths]
        absent = [path for path in named if not path.exists()]
        if absent:
            raise SpecError(f"{absent[0]}: no such job file or folder")
        self._folders = [path for path in named if path.is_dir()]
        self._singles = [path for path in named if not path.is_dir()]
        self._copies = copies
        self._files: dict[Path, JobFile] = {}
        self._owners: dict[tuple[str, str], Path] = {}
        self._read: dict[Path, Signature] = {}
        self._seen: dict[Path, Signature] = {}
        self._unlisted: dict[Path, str] = {}

    @property
    def files(self) -> tuple[JobFile, ...]:
        """Every job file, sorted by path."""
        return tuple(file for _, file in sorted(self._files.items()))

    @property
    def broken(self) -> tuple[JobFile, ...]:
        """Those in which something is wrong, sorted by path: few of what may be thousands."""
        return tuple(sorted((file for file in self._files.values() if file.error), key=lambda file: file.path))

    @property
    def unlisted(self) -> Mapping[Path, str]:
        """Folders that can't be listed, and why. Their jobs stay as they were."""
        return self._unlisted

    def jobs(self) -> dict[str, JobFile]:
        """The file of each job that has a good definition, by the job's name."""
        return {file.spec.job.name: file for file in self.files if file.spec is not None}

    def scan(self, *, at_once: bool = False) -> bool:
        """Look for changes, and read what has changed; True if anything did.

        A change is believed when two scans in a row saw the same (an editor may be half-way through), or `at_once`.
        """
        before, self._seen = self._seen, self._signatures()
        changed = [
            path
            for path in sorted(self._seen.keys() | self._read.keys())
            if self._seen.get(path) != self._read.get(path) and (at_once or self._seen.get(path) == before.get(path))
        ]
        # What stood in a broken file's way may be gone now.
        broken = [file.path for file in self.broken if file.path not in changed] if changed else []
        changed.sort(key=lambda path: path in self._seen)  # first what is gone: a file may have been renamed
        for path in (*changed, *broken):
            self._update(path, self._seen.get(path))
        return bool(changed)

    def _signatures(self) -> dict[Path, Signature]:
        found: dict[Path, Signature] = {}
        self._unlisted = {}
        for folder in self._folders:
            try:
                inside = [path for path in folder.iterdir() if path.suffix == ".toml"]
            except OSError as error:
                self._unlisted[folder] = f"{folder}: can't list the job files: {error.strerror}"
                found |= {path: signature for path, signature in self._read.items() if path.parent == folder}
            else:
                found |= _signed(inside)
        return found | _signed(self._singles)

    def _update(self, path: Path, signature: Signature | None) -> None:
        copy = self._copies / f"{of_job(str(path))}.toml"
        if signature is None:
            self._read.pop(path, None)
            self._take_over(path, None)
            copy.unlink(missing_ok=True)
            return
        self._read[path] = signature
        known = self._files.get(path)
        try:
            self._take_over(path, JobFile(path, copy, self._good(path, copy), None))
        except SpecError as error:
            spec = known.spec if known and known.spec else self._kept(path, copy)
            self._take_over(path, JobFile(path, copy, spec, str(error)))
        except OSError as error:
            self._read.pop(path)  # to be tried again
            message = f"{path}: can't keep a copy as {copy}: {error.strerror}; check that this user may write there"
            self._take_over(path, JobFile(path, copy, known.spec if known else None, message))

    def _take_over(self, path: Path, file: JobFile | None) -> None:
        """Go on with this file, which owns what is one job's alone; None: it is gone."""
        before = self._files.pop(path, None)
        if before is not None and before.spec is not None:
            for claim in own(before.spec):
                self._owners.pop(claim, None)
        if file is not None:
            self._files[path] = file
            if file.spec is not None:
                self._owners |= dict.fromkeys(own(file.spec), path)

    def _good(self, path: Path, copy: Path) -> JobSpec:
        """What is in the file, and now also in its copy. Raises `SpecError`, and `OSError` when there can be no copy."""
        copy.parent.mkdir(parents=True, exist_ok=True)
        handle, name = mkstemp(dir=copy.parent, suffix=".tmp")
        candidate = Path(name)
        try:
            with os.fdopen(handle, "wb") as target:
                target.write(_bytes(path))
            spec = self._checked(load(path, text_from=candidate))
            candidate.replace(copy)
        finally:
            candidate.unlink(missing_ok=True)
        return spec

    def _kept(self, path: Path, copy: Path) -> JobSpec | None:
        """The definition that was good before the scheduler began, if it still is."""
        try:
            return self._checked(load(path, text_from=copy))
        except SpecError:
            return None

    def _checked(self, spec: JobSpec) -> JobSpec:
        """The spec, if no other file has its name or its output folder. Raises `SpecError`."""
        for key, value in own(spec):
            owner = self._owners.get((key, value), spec.path)
            if owner != spec.path:
                raise SpecError(shared(spec.path, key, value, owner))
        return spec


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: can't read the job file: {error.strerror}") from error


def _signed(paths: Iterable[Path]) -> dict[Path, Signature]:
    """The files that are there, with what changes when they do."""
    found: dict[Path, Signature] = {}
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found
