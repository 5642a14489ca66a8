"""A model file over time: which version it is, and putting another in its place without a moment in between.

Beside the model file, in `<file>.versions/`, lie `<sha256>.json` (a `Version`) for each model that a retraining put
in place, and `<sha256><suffix>`, the models that were replaced, to go back to. Everything is named by its content, so
nothing there can speak of another file than it means: the one step that changes which model is in use is one rename.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipelines.durable import flush, flush_folder, make_folder
from pipelines.errors import ModelError

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Version:
    """A model that a retraining made, and the one that it replaced."""

    version: str
    sha256: str
    parent_version: str
    parent_sha256: str
    trained_at: datetime
    retrain_id: str


_VERSION = TypeAdapter(Version)


def digest(path: Path) -> str:
    """The file's SHA-256. Raises `ModelError` naming it when it can't be read."""
    with _reported(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def version_of(model: Path, sha256: str) -> Version | None:
    """What is known of the content that was found at `model`; None when no retraining put it there.

    Raises `ModelError` when that can't be read: a model under another's name would be worse.
    """
    file = _description(model, sha256)
    try:
        return _VERSION.validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise ModelError(f"{file}: can't be read ({cause}); delete it, and the model is called by model.version") from error


def kept(model: Path, sha256: str) -> Path:
    """Where the content is kept once it was replaced."""
    return _folder(model) / f"{sha256}{model.suffix}"


def check_replaceable(model: Path) -> None:
    """Raise `ModelError`, saying what to do, when the file could not be switched for another."""
    if model.is_symlink():
        raise ModelError(f"model {model}: is a link, and it can't be known what the link is for; name the file itself")
    with _reported(model):
        if not stat.S_ISREG(model.stat().st_mode):
            raise ModelError(f"model {model}: is not a regular file")
    if not os.access(model.parent, os.W_OK | os.X_OK):
        raise ModelError(f"model {model}: its folder can't be written by this user, so the file can't be switched")


def keep(model: Path, sha256: str, *, tag: str) -> None:
    """Have the content of `model` kept, durably. Raises `ModelError` when it isn't `sha256`, or can't be kept."""
    place = kept(model, sha256)
    if not place.exists() or digest(place) != sha256:
        _make_folder(model)
        _copy(model, place, sha256, tag=tag)


def describe(model: Path, version: Version, *, tag: str) -> None:
    """Put down what a content will be called wherever it is found at `model`. Raises `ModelError`."""
    file = _description(model, version.sha256)
    _make_folder(model)
    with _staged(file, tag) as temporary, temporary.open("xb") as out:
        out.write(_VERSION.dump_json(version, indent=2) + b"\n")
        shutil.copymode(model, temporary)
        flush(out)


def switch(source: Path, model: Path, sha256: str, *, tag: str) -> None:
    """Put the content of `source` in the place of `model`: whoever opens it finds the old one whole or the new one whole.

    Raises `ModelError`, with the old one still in place, when the content isn't `sha256` or can't be written.
    """
    _copy(source, model, sha256, tag=tag)


def prune(model: Path, spare: Collection[str]) -> None:
    """Remove what is kept of other contents than `spare` (SHA-256s). What can't be removed is left."""
    named = re.compile(rf"([0-9a-f]{{64}})({re.escape(model.suffix)}|\.json)")
    for file in _files(_folder(model)):
        match = named.fullmatch(file.name)
        if match and match[1] not in spare:
            with suppress(OSError):
                file.unlink()


def remove_leftovers(model: Path, *, tag: str) -> None:
    """Remove the temporary files of whoever used this tag and died. What can't be removed is left."""
    for file in (*_files(model.parent), *_files(_folder(model))):
        if file.name.startswith(".") and file.name.endswith(_ending(tag)):
            with suppress(OSError):
                file.unlink()


def _files(folder: Path) -> tuple[Path, ...]:
    """What lies in the folder; nothing where it can't be looked into."""
    try:
        return tuple(folder.iterdir())
    except OSError:
        return ()


def _folder(model: Path) -> Path:
    return model.with_name(f"{model.name}.versions")


def _make_folder(model: Path) -> None:
    """Whoever can read the model must be able to read what is said of it."""
    folder = _folder(model)
    with _reported(folder):
        make_folder(folder)
        shutil.copymode(model.parent, folder)


def _description(model: Path, sha256: str) -> Path:
    return _folder(model) / f"{sha256}.json"


def _ending(tag: str) -> str:
    return f".{tag}.tmp"


def _copy(source: Path, target: Path, sha256: str, *, tag: str) -> None:
    with _staged(target, tag) as temporary, source.open("rb") as file, temporary.open("xb") as out:
        found = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
            out.write(chunk)
        if found.hexdigest() != sha256:
            raise ModelError(f"{source}: has changed meanwhile (its SHA-256 is {found.hexdigest()}, not {sha256})")
        # Whoever could read the old file can read the new one.
        shutil.copymode(target if target.exists() else source, temporary)
        flush(out)


@contextmanager
def _staged(target: Path, tag: str) -> Iterator[Path]:
    """A temporary file beside `target`, which takes its place at the end, durably, unless there was an error."""
    temporary = target.with_name(f".{target.name}{_ending(tag)}")
    with _reported(target):
        try:
            yield temporary
            temporary.replace(target)
            flush_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        raise ModelError(f"model {path}: {cause}; check the folder, its permissions and the space on its disk") from error
