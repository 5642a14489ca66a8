"""Installing programs from Debian's packages, and having them run where they were unpacked.

What apt-get and dpkg do is written down by scripts of their names: no test needs the network.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring import packages, unpacked

ROOT = Path(__file__).parent.parent
PROGRAMS = ("prometheus", "promtool", "prometheus-pushgateway", "prometheus-alertmanager", "amtool", "prometheus-node-exporter")
DOWNLOADED = 'for word in "$@"; do case $word in Dir::Cache::Archives=*) touch "${word#*=}/all.deb";; esac; done'
UNPACKED = (
    f'mkdir -p "$3/usr/bin"; for name in {" ".join(PROGRAMS)}; do : >"$3/usr/bin/$name"; chmod +x "$3/usr/bin/$name"; done'
)
FAILS = "echo 'E: no network' >&2; exit 100"


class Machine:
    """A PATH of its own. Its `apt-get` and `dpkg` do what they are told, and write down what they were asked."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bin"
        self.path.mkdir()
        self.log = folder / "asked"
        for name in ("sh", "mkdir", "touch", "chmod"):
            (self.path / name).symlink_to(f"/usr/bin/{name}")

    def has(self, name: str, script: str) -> None:
        (self.path / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{self.log}\n{script}\n')
        (self.path / name).chmod(0o755)

    def install(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Without site-packages: it runs before anything is installed."""
        command = [sys.executable, "-S", "-m", "monitoring.servers", "install", *map(str, arguments)]
        environment = {**os.environ, "PATH": str(self.path)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_apt_it_says_what_is_missing(machine: Machine, tmp_path: Path) -> None:
    """A plain message and exit code 1."""
    done = machine.install(tmp_path / "tools")
    assert done.returncode == 1
    assert done.stderr.startswith("there is no apt-get here: install prometheus, prometheus-pushgateway")
    assert "Traceback" not in done.stderr


def test_packages_come_with_what_they_need_and_nothing_of_the_machine_changes(machine: Machine, tmp_path: Path) -> None:
    """Downloaded only, without locks, into a folder of ours; installing again asks for nothing."""
    machine.has("apt-get", DOWNLOADED)
    machine.has("dpkg", UNPACKED)
    tools = tmp_path / "tools"
    done = machine.install(tools)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"installed in {tools / 'root' / 'usr' / 'bin'}" in done.stdout
    fetch, unpack = machine.asked
    assert "Debug::NoLocking=1" in fetch
    assert f"Dir::Cache::Archives={tools}/packages" in fetch
    assert " install --download-only --reinstall --no-install-recommends --yes prometheus prometheus-pushgateway " in fetch
    assert "Dir::Etc" not in fetch
    assert unpack == f"dpkg -x {tools}/packages/all.deb {tools}/unpacked"
    assert sorted(entry.name for entry in tools.iterdir()) == ["root"]
    assert "on PATH or in" in machine.install(tools).stdout
    assert len(machine.asked) == 2


def test_only_what_path_lacks_is_fetched(machine: Machine, tmp_path: Path) -> None:
    """A machine's own Prometheus is good enough."""
    machine.has("apt-get", DOWNLOADED)
    machine.has("dpkg", UNPACKED)
    for name in ("prometheus", "promtool", "pushgateway", "alertmanager", "amtool"):
        machine.has(name, "")
    machine.install(tmp_path / "tools")
    assert machine.asked[0].endswith("--yes prometheus-node-exporter")


def test_where_the_machine_has_no_lists_ours_are_fetched(machine: Machine, tmp_path: Path) -> None:
    """Into our folder; and a download that fails is told in apt's words, also after this second way."""
    machine.has("apt-get", f'case "$*" in *Dir::State::Lists*) {DOWNLOADED};; *) {FAILS};; esac')
    machine.has("dpkg", UNPACKED)
    done = machine.install(tmp_path / "tools")
    assert done.returncode == 0
    assert f"not with this machine's package lists (E: no network); fetching lists into {tmp_path}/tools/apt" in done.stdout
    assert [line.rsplit("Dir::State::Lists=", 1)[1].split() for line in machine.asked[1:2]] == [
        [f"{tmp_path}/tools/apt/lists", "update"]
    ]
    machine.has("apt-get", FAILS)
    done = machine.install(tmp_path / "other")
    assert done.returncode == 1
    assert "E: no network" in done.stderr
    assert "Traceback" not in done.stderr


def test_packages_without_the_programs_are_an_error(machine: Machine, tmp_path: Path) -> None:
    """Rather than a demo that fails later."""
    machine.has("apt-get", DOWNLOADED)
    machine.has("dpkg", "")
    done = machine.install(tmp_path / "tools")
    assert done.returncode == 1
    assert "prometheus-alertmanager, prometheus-node-exporter: unpacked in" in done.stderr


def test_an_unpacking_that_was_interrupted_is_no_installation(machine: Machine, tmp_path: Path) -> None:
    """Half a package counts as nothing, and the next time leaves none of it."""
    machine.has("apt-get", DOWNLOADED)
    machine.has("dpkg", f'{UNPACKED}; touch "$3/half"; kill -9 $$')
    assert machine.install(tmp_path / "tools").returncode == 1
    assert not (tmp_path / "tools" / "root").exists()
    machine.has("dpkg", UNPACKED)
    done = machine.install(tmp_path / "tools")
    assert "installed in" in done.stdout
    assert sorted(file.name for file in (tmp_path / "tools").rglob("*") if file.is_file()) == sorted(PROGRAMS)


def suite_machine(machine: Machine) -> None:
    listed = "printf 'bookworm-updates mirror://m/x/\\nbookworm mirror://m/debian/\\nbookworm-security mirror://m/s/\\n'"
    machine.has("apt-get", f'case "$1" in indextargets) {listed};; *) {DOWNLOADED};; esac')
    machine.has("dpkg", UNPACKED)
    for name in PROGRAMS:  # on PATH: another suite's are wanted all the same
        machine.has(name, "")


def test_a_suite_comes_from_the_machines_own_mirror(machine: Machine, tmp_path: Path) -> None:
    """With sources and lists of its own, whatever is on PATH."""
    suite_machine(machine)
    tools = tmp_path / "tools"
    kept = "cp $(printf '%s\\n' \"$@\" | sed -n 's/^Dir::Etc::SourceList=//p')"
    for name in ("cp", "sed"):
        (machine.path / name).symlink_to(f"/usr/bin/{name}")
    with (machine.path / "apt-get").open("a") as script:
        script.write(f'case "$*" in *update) {kept} {tmp_path}/sources;; esac\n')
    done = machine.install(tools, "--suite", "forky")
    assert (done.returncode, done.stderr) == (0, "")
    words = (tmp_path / "sources").read_text().split()
    assert [word for word in words if not word.startswith("[")] == ["deb", "mirror://m/debian/", "forky", "main"]
    _, update, fetch, _ = machine.asked
    for line in (update, fetch):
        assert "Dir::Etc::SourceParts=/dev/null" in line
        assert f"Dir::State::Lists={tools}/apt/lists" in line
    assert (tools / "suite").read_text() == "forky\n"


def test_a_folder_holds_one_suite(machine: Machine, tmp_path: Path) -> None:
    """Two would be told apart by nobody."""
    suite_machine(machine)
    assert machine.install(tmp_path / "tools", "--suite", "forky").returncode == 0
    assert machine.install(tmp_path / "tools", "--suite", "forky").returncode == 0
    for options in (["--suite", "sid"], []):
        done = machine.install(tmp_path / "tools", *options)
        assert done.returncode == 1
        assert f"{tmp_path}/tools was filled from forky: name another folder, or delete it" in done.stderr


def test_a_suite_needs_a_mirror(tmp_path: Path, machine: Machine) -> None:
    """A machine whose sources name none is told so."""
    suite_machine(machine)
    machine.has("apt-get", "")
    done = machine.install(tmp_path / "tools", "--suite", "forky")
    assert done.returncode == 1
    assert "sources name no mirror" in done.stderr


def test_the_browser_is_installed_apart(machine: Machine, tmp_path: Path) -> None:
    """With its libraries and fonts, which it finds wherever the folder is moved to; the machine's own config is left alone."""
    machine.has("apt-get", DOWNLOADED)
    unpack_browser(tmp_path / "unpacked")
    (machine.path / "cp").symlink_to("/usr/bin/cp")
    machine.has("dpkg", f"cp -a {tmp_path}/unpacked $3")
    assert machine.install(tmp_path / "tools", "chromium").returncode == 0
    assert machine.asked[0].endswith("--yes chromium")
    moved = (tmp_path / "tools").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(moved / "root" / "usr" / "bin" / "chromium")
    said = subprocess.run([tmp_path / "link", "--headless", "a b"], capture_output=True, text=True, check=True).stdout
    arguments, libraries, fonts, fonts_file = said.splitlines()
    assert arguments == "--headless|a b|"
    assert {Path(folder).resolve() for folder in libraries.split(":")} >= {
        moved / "root" / "usr" / "lib" / "x86_64-linux-gnu",
        moved / "root" / "usr" / "lib" / "x86_64-linux-gnu" / "pulseaudio",
    }
    assert "usr/share/fonts" in (Path(fonts) / fonts_file).read_text()
    assert (moved / "root" / "etc" / "fonts" / "conf.d" / "10.conf").read_text() == "a font's settings"


def unpack_browser(root: Path) -> None:
    """What Debian's packages of Chromium, its libraries and its fonts put in a folder; the program says what it sees."""
    for folder in ("bin", "lib/chromium", "lib/x86_64-linux-gnu/pulseaudio", "share/fontconfig/conf.avail"):
        (root / "usr" / folder).mkdir(parents=True)
    (root / "usr" / "bin" / "chromium").write_text("#!/bin/sh\nexec /usr/lib/chromium/chromium\n")
    program = root / "usr" / "lib" / "chromium" / "chromium"
    program.write_text("""#!/bin/sh
printf '%s|' "$@"
echo
echo "$LD_LIBRARY_PATH"
echo "$FONTCONFIG_PATH"
echo "$FONTCONFIG_FILE"
""")
    program.chmod(0o755)
    (root / "usr" / "share" / "fontconfig" / "conf.avail" / "10.conf").write_text("a font's settings")
    (root / "etc" / "fonts" / "conf.d").mkdir(parents=True)
    (root / "etc" / "fonts" / "fonts.conf").write_text("<fontconfig/>")
    (root / "etc" / "fonts" / "conf.d" / "10.conf").symlink_to("/usr/share/fontconfig/conf.avail/10.conf")


def test_servers_look_for_their_pages_where_they_were_unpacked(tmp_path: Path) -> None:
    """The path in the program is replaced by a relative one of the same length; twice is as good as once."""
    binaries = tmp_path / "usr" / "bin"
    binaries.mkdir(parents=True)
    before = b"\x7fELF\x00/usr/share/prometheus/web/no\x00\x01/usr/share/prometheus/web\x00rest"
    (binaries / "prometheus").write_bytes(before)
    (binaries / "prometheus-node-exporter").write_bytes(b"\x7fELF nothing of that")
    unpacked.mend(tmp_path)
    mended = (binaries / "prometheus").read_bytes()
    assert len(mended) == len(before)
    assert mended == b"\x7fELF\x00.////share/prometheus/web/no\x00\x01.////share/prometheus/web\x00rest"
    assert os.access(binaries / "prometheus", os.X_OK)
    inode = (binaries / "prometheus").stat().st_ino
    unpacked.mend(tmp_path)
    assert (binaries / "prometheus").stat().st_ino == inode
    assert (binaries / "prometheus-node-exporter").read_bytes() == b"\x7fELF nothing of that"
    assert sorted(file.name for file in binaries.iterdir()) == ["prometheus", "prometheus-node-exporter"]


def test_pages_that_the_machine_has_are_borrowed(tmp_path: Path) -> None:
    """What was installed before is not unpacked, and a page without its scripts is blank."""
    static = tmp_path / "usr" / "share" / "prometheus" / "web" / "static"
    static.mkdir(parents=True)
    present = next(entry.name for entry in sorted(Path("/usr/share").iterdir()) if entry.is_dir())
    (static / "borrowed").symlink_to(f"../../../{present}")
    (static / "again").symlink_to(f"../../../{present}")
    (static / "absent").symlink_to("../../../there is no such folder")
    (static / "outside").symlink_to("../../../../../elsewhere")
    for _ in range(2):
        unpacked.mend(tmp_path)
    assert (static / "borrowed").samefile(Path("/usr/share") / present)
    assert (static / "again").exists()
    assert not (static / "absent").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may be full, the folder another's."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name in {"apt-get", "dpkg"} else None)
    for suite in (None, "forky"):
        with pytest.raises(packages.MissingServer, match=r"file/tools.* can't be written: Not a directory"):
            packages.install(tmp_path / "file" / "tools", what="chromium", suite=suite, say=lambda _: None)
