"""Programs of other projects: where they are, and unpacking Debian's packages of them into a folder of ours.

The servers, and the browser that the tests look at pages with.
Standard library only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from monitoring import apt, unpacked
from monitoring.apt import Say
from pipelines.errors import BatchgaugeError

SERVERS = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "pushgateway": "prometheus-pushgateway",
    "alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "node_exporter": "prometheus-node-exporter",
}
"""Upstream's name of a program → the Debian package it is in."""

BROWSER, DATABASE = "chromium", "postgresql"
WHAT = {"servers": SERVERS, BROWSER: {BROWSER: BROWSER}, DATABASE: {"postgres": "postgresql"}}
"""What can be installed at once."""

_VERSIONS = Path("/usr/lib/postgresql")  # Debian has several beside each other, and none on PATH
_PROGRAMS = Path("root") / "usr" / "bin"
_SUITE = "suite"  # the file that says which one a folder was filled from


class MissingServer(BatchgaugeError):  # noqa: N818  it names what is missing
    """A program is nowhere to be found, or can't be installed."""


def find(name: str, places: Sequence[Path | None]) -> Path:
    """The program, by upstream's or Debian's name, in the first place that has it.

    A place is a folder that `install` filled, or that has programs loose in it; None stands for PATH.
    Raises `MissingServer` with the command that installs it.
    """
    if found := _found(name, places):
        return found
    folders = [place for place in places if place is not None]
    what = next((f" {what}" for what, programs in WHAT.items() if name in programs and what != "servers"), "")
    raise MissingServer(
        f"{name} is not on PATH and not in {' or '.join(map(str, folders))};"
        f" install it: python -m monitoring.servers install {folders[0]}{what}"
    )


def install(folder: Path, *, what: str = "servers", suite: str | None = None, say: Say = print) -> None:
    """Unpack what is neither on PATH nor in the folder: the servers, or the browser or PostgreSQL instead.

    With a `suite` PATH doesn't count, and the folder holds that suite's servers only.
    Raises `MissingServer` when they can't be had.
    """
    folder = folder.absolute()
    packages = WHAT[what]
    places = [folder] if suite else [None, folder]
    try:
        _keep_to_suite(folder, suite)
        if wanted := _missing(packages, places):
            apt.fetch_and_unpack(wanted, folder, suite=suite, say=say)
        unpacked.mend(folder / "root")
    except apt.AptFailed as error:
        raise MissingServer(str(error)) from error
    except OSError as error:
        raise MissingServer(f"{error.filename or folder} can't be written: {error.strerror}") from error
    if missing := _missing(packages, places):
        raise MissingServer(f"{', '.join(missing)}: unpacked in {folder / 'root'}, but without the programs; install by hand")
    say(f"{', '.join(dict.fromkeys(packages.values()))}: {'installed in' if wanted else 'on PATH or in'} {folder / _PROGRAMS}")


def _keep_to_suite(folder: Path, suite: str | None) -> None:
    """Programs of two suites in one folder would be told apart by nobody."""
    file, filled = folder / _SUITE, (folder / "root").exists()
    said = file.read_text().strip() if file.exists() else None
    if filled and said != suite:
        raise MissingServer(
            f"{folder} was filled from {said or 'the suite of this machine'}: name another folder, or delete it"
        )
    if suite and not said:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{suite}\n")


def _missing(packages: dict[str, str], places: Sequence[Path | None]) -> list[str]:
    return list(dict.fromkeys(package for name, package in packages.items() if not _found(name, places)))


def _found(name: str, places: Iterable[Path | None]) -> Path | None:
    for place in places:
        for candidate in _names(name):
            if place is None:
                if on_path := shutil.which(candidate):
                    return Path(on_path)
                found = sorted(_VERSIONS.glob(f"*/bin/{candidate}"))
                if found:
                    return found[-1]
            else:
                unpacked_ = sorted((place / "root").glob(f"usr/lib/postgresql/*/bin/{candidate}"))
                for file in (place / _PROGRAMS / candidate, place / candidate, *unpacked_):
                    if _is_program(file):
                        return file.absolute()
    return None


def _is_program(path: Path) -> bool:
    return os.access(path, os.X_OK) and not os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises where we may not look


def _names(name: str) -> tuple[str, ...]:
    upstream = name.removeprefix("prometheus-").replace("-", "_")
    return tuple(dict.fromkeys((name, upstream, f"prometheus-{upstream.replace('_', '-')}")))
