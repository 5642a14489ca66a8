"""Makes programs run where their packages were unpacked, without being installed: every step may be repeated.

Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

_SHARE, _RELOCATED = b"/usr/share/prometheus", b".////share/prometheus"
"""Debian's servers look for their pages in the first. The second, as long, is relative: they are started in `usr`."""

_CHROMIUM = """\
#!/bin/sh
# Chromium with the libraries and fonts that were unpacked beside it.
root="$(dirname "$(readlink -f "$0")")/../.."
for folder in "$root"/lib/*-linux-gnu* "$root"/usr/lib/*-linux-gnu* "$root"/usr/lib/*-linux-gnu*/pulseaudio; do
    LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
done
export LD_LIBRARY_PATH
if [ -e "$root/etc/fonts/unpacked.conf" ]; then
    export FONTCONFIG_PATH="$root/etc/fonts" FONTCONFIG_FILE=unpacked.conf
fi
exec "$root/usr/lib/chromium/chromium" "$@"
"""

_FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir prefix="relative">../../usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <include ignore_missing="yes">conf.d</include>
</fontconfig>
"""


def mend(root: Path) -> None:
    """Everything that is needed in `root`, the folder with `usr` and `etc` in it. Does nothing when there is none."""
    _relocate_servers(root)
    _borrow_pages(root / "usr" / "share", Path("/usr/share"))
    if (root / "usr" / "lib" / "chromium").is_dir():
        _replace(root / "usr" / "bin" / "chromium", _CHROMIUM.encode())
    if (root / "etc" / "fonts" / "fonts.conf").exists():  # not unpacked where the machine has its own
        _mend_fonts(root)


def _relocate_servers(root: Path) -> None:
    """Have them look for their pages where those were unpacked. Alertmanager doesn't start without its template."""
    for program in (root / "usr" / "bin").glob("prometheus*"):
        content = program.read_bytes()
        if _SHARE in content:
            _replace(program, content.replace(_SHARE, _RELOCATED))


def _borrow_pages(share: Path, machine: Path) -> None:
    """What the servers' pages need and this machine has was not unpacked: link to it."""
    for link in (share / "prometheus").rglob("*"):
        if link.is_symlink() and not link.exists():
            wanted = Path(os.path.normpath(link.parent / link.readlink()))
            installed = machine / wanted.relative_to(share) if wanted.is_relative_to(share) else None
            if installed is not None and installed.exists() and not wanted.is_symlink():
                wanted.parent.mkdir(parents=True, exist_ok=True)
                wanted.symlink_to(installed)


def _mend_fonts(root: Path) -> None:
    fonts = root / "etc" / "fonts"
    (fonts / "unpacked.conf").write_text(_FONTS)
    for link in (fonts / "conf.d").iterdir():
        if link.is_symlink() and link.readlink().is_absolute():
            target = Path("../../..") / link.readlink().relative_to("/")
            link.unlink()
            link.symlink_to(target)


def _replace(program: Path, content: bytes) -> None:
    aside = program.with_name(f".{program.name}.tmp")  # the program may be running
    aside.write_bytes(content)
    aside.chmod(0o755)
    aside.replace(program)
