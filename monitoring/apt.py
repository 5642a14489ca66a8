"""Debian packages as files: fetched with apt-get, unpacked with dpkg, into folders of ours.

Neither needs root, runs a maintainer script or starts a service, and the machine's own lists and packages stay as they
are. Standard library only.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.errors import BatchgaugeError

_PROGRAMS = Path("usr") / "bin"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

Say = Callable[[str], None]


class AptFailed(BatchgaugeError):  # noqa: N818  it says what happened
    """apt-get or dpkg is not here, or it failed; the message has its own words."""


def fetch_and_unpack(packages: Sequence[str], folder: Path, *, suite: str | None = None, say: Say = print) -> None:
    """Unpack the packages, and what they depend on and this machine lacks, into `folder`/root.

    `suite`: from that suite of the mirror this machine uses, instead of the machine's own.
    Raises `AptFailed`, and `OSError` where the folder can't be written.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise AptFailed(f"there is no {tool} here: install {', '.join(packages)} by hand and put the programs on PATH")
    fetched, private, unpacked = folder / "packages", folder / "apt", folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)  # of one that was interrupted
    for place in (fetched / "partial", private / "lists" / "partial", private / "cache"):
        place.mkdir(parents=True, exist_ok=True)
    say(f"downloading {', '.join(packages)}")
    how = ["install", "--download-only", "--reinstall", "--no-install-recommends", "--yes"]
    _fetch([*how, *packages], fetched, private, suite, say)
    archives = sorted(fetched.glob("*.deb"))
    say(f"unpacking {len(archives)} packages: these, and what they need")
    for archive in archives:
        _run(["dpkg", "-x", str(archive), str(unpacked)], folder)
    _move(unpacked, folder / "root")
    for place in (fetched, private, unpacked):
        shutil.rmtree(place, ignore_errors=True)


def _move(unpacked: Path, root: Path) -> None:
    """One by one, the programs last: one that is there is whole and has all it needs, whenever we are interrupted."""
    root.mkdir(exist_ok=True)
    for path in sorted(unpacked.rglob("*"), key=lambda path: path.is_relative_to(unpacked / _PROGRAMS)):
        target = root / path.relative_to(unpacked)
        if path.is_dir() and not path.is_symlink():
            target.mkdir(exist_ok=True)
        else:
            path.replace(target)


def _fetch(command: Sequence[str], into: Path, private: Path, suite: str | None, say: Say) -> None:
    """With the machine's package lists; where there are none, or for another suite, with lists of our own."""
    settings = {
        "Dir::Cache": private / "cache",
        "Dir::Cache::Archives": into,
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",  # the folder is ours, not apt's own user's
        "Acquire::Languages": "none",
    }
    if suite is None:
        try:
            _run(_apt(settings, *command), into)
        except AptFailed as error:
            say(f"not with this machine's package lists ({str(error).splitlines()[-1]}); fetching lists into {private}")
        else:
            return
    else:
        settings |= {"Dir::Etc::SourceList": _sources(suite, private), "Dir::Etc::SourceParts": "/dev/null"}
    settings["Dir::State::Lists"] = private / "lists"
    _run(_apt(settings, "update"), into)
    _run(_apt(settings, *command), into)


def _apt(settings: dict[str, object], *command: str) -> list[str]:
    return ["apt-get", "-q", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}")), *command]


def _sources(suite: str, private: Path) -> Path:
    """A list of sources that names the suite on the mirror this machine uses."""
    format_ = "$(RELEASE) $(REPO_URI)"
    listed = _run(["apt-get", "indextargets", "--format", format_, "Created-By: Packages", "Component: main"], private)
    mirrors = [uri for release, _, uri in (line.partition(" ") for line in listed.splitlines()) if "-" not in release]
    if not mirrors:
        raise AptFailed("this machine's package sources name no mirror of a whole release: see /etc/apt/sources.list.d")
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    file = private / "sources.list"
    file.write_text(f"deb {signed}{mirrors[0]} {suite} main\n")
    return file


def _run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise AptFailed(f"{' '.join(command)} failed in {folder}:\n{said}")
    return done.stdout
