"""The servers' binaries: where they are, and unpacking Debian's packages into a folder of ours.

Standard library only. `apt-get download` and `dpkg -x` need no root, run no maintainer script, start no service.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.errors import BatchgaugeError

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "pushgateway": "prometheus-pushgateway",
    "alertmanager": "prometheus-alertmanager",
    "node_exporter": "prometheus-node-exporter",
}
"""Upstream's name of a binary → the Debian package it is in."""

_BINARIES = Path("root") / "usr" / "bin"

_SHARE, _RELOCATED = b"/usr/share/prometheus", b".////share/prometheus"
"""Debian builds the servers to look for their pages in this folder. The other, as long, is relative to `usr`."""

Say = Callable[[str], None]


class MissingServer(BatchgaugeError):  # noqa: N818  it names what is missing
    """A server's binary is nowhere to be found, or can't be installed."""


def find(name: str, folder: Path) -> Path:
    """The binary, by upstream's or Debian's name: on PATH, else in the folder that `install` filled, or loose in it.

    Raises `MissingServer` with the command that installs it.
    """
    names = _names(name)
    for candidate in names:
        if found := shutil.which(candidate):
            return Path(found)
    for place in (folder / _BINARIES, folder):
        for candidate in names:
            if _is_program(place / candidate):
                return (place / candidate).absolute()
    raise MissingServer(f"{name} is not on PATH and not in {folder}; install it: python -m monitoring.servers install {folder}")


def install(folder: Path, *, say: Say = print) -> None:
    """Unpack the packages of the servers that `find` doesn't find. Raises `MissingServer` when they can't be had."""
    folder = folder.absolute()
    wanted = list(dict.fromkeys(package for name, package in PACKAGES.items() if not _is_found(name, folder)))
    if not wanted:
        _relocate(folder / _BINARIES)
        say(f"the servers are on PATH or in {folder / _BINARIES} already")
        return
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise MissingServer(f"there is no {tool} here: install {', '.join(wanted)} by hand and put them on PATH")
    downloads = folder / "packages"
    try:
        downloads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingServer(f"{downloads} can't be made: {error.strerror}") from error
    _download(wanted, downloads, folder / "apt", say)
    for archive in sorted(downloads.glob("*.deb")):
        say(f"unpacking {archive.name}")
        _run(["dpkg", "-x", str(archive), str(folder / "root")], folder)
    shutil.rmtree(downloads)
    _relocate(folder / _BINARIES)
    say(f"installed {', '.join(wanted)} in {folder / _BINARIES}")


def _relocate(binaries: Path) -> None:
    """Make unpacked servers look for their pages where they were unpacked. Alertmanager doesn't start without its template."""
    for binary in binaries.glob("*"):
        content = binary.read_bytes()
        if _SHARE in content:
            aside = binary.with_name(f".{binary.name}.tmp")  # the server may be running
            aside.write_bytes(content.replace(_SHARE, _RELOCATED))
            aside.chmod(0o755)
            aside.replace(binary)


def _is_found(name: str, folder: Path) -> bool:
    try:
        find(name, folder)
    except MissingServer:
        return False
    return True


def _is_program(path: Path) -> bool:
    return os.access(path, os.X_OK) and not os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises where we may not look


def _names(name: str) -> tuple[str, ...]:
    upstream = name.removeprefix("prometheus-").replace("-", "_")
    return tuple(dict.fromkeys((name, upstream, f"prometheus-{upstream.replace('_', '-')}")))


def _download(packages: Sequence[str], into: Path, private: Path, say: Say) -> None:
    """With the machine's package lists; where there are none, with lists of our own: the machine's stay untouched."""
    say(f"downloading {', '.join(packages)}")
    try:
        _run(["apt-get", "-q", "download", *packages], into)
    except MissingServer as error:
        say(f"not with this machine's package lists ({str(error).splitlines()[-1]}); fetching lists into {private}")
    else:
        return
    (private / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (private / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State::lists": private / "lists",
        "Dir::Cache": private / "cache",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "",  # the folder is ours, not apt's own user's
        "Acquire::Languages": "none",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    _run(["apt-get", "-q", *options, "update"], into)
    _run(["apt-get", "-q", *options, "download", *packages], into)
    shutil.rmtree(private)


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise MissingServer(f"{' '.join(command)} failed in {folder}:\n{said}")
