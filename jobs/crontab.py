"""Crontab lines for jobs: `batchgauge crontab`, and the example that ships (`python -m jobs.crontab`).

What is written means the same to Debian's cron and to cronie: five fields and no nickname, absolute paths, percent
signs and backslashes that survive both. Only the zone of a job that is not the machine's is known to cronie alone.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from jobs.catalogue import load_all
from jobs.timetable import Entry, scheduled
from monitoring.filenames import of_job
from pipelines.errors import SpecError

_LOCALTIME = Path("/etc/localtime")
_LONGEST = 998
"""Bytes of a command or setting: Debian's cron cuts off what is longer, without a word."""
_UNSAYABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SAME_FOR_HOURS = 2 * 366 * 24
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Crontab:
    """What the lines are made of. `programs` is the folder that has the `batchgauge` command."""

    entries: Sequence[Entry]
    programs: Path
    settings: Mapping[str, str]
    machine: ZoneInfo
    mailto: str | None = None
    logs: Path | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def elsewhere(self) -> list[Entry]:
        """The jobs whose clock differs from this machine's, now or within two years."""
        return [entry for entry in self.entries if not _same_clock(entry.zone, self.machine, self.now)]

    def text(self) -> str:
        """The whole crontab. Raises `SpecError` for what can't be said in one."""
        elsewhere = self.elsewhere()
        here = [entry for entry in self.entries if entry not in elsewhere]
        lines = [*self._head(), "", "# m h dom mon dow  command", *map(self._line, here)]
        lines += [
            "",
            "# Whatever is owed since an outage of the gateway, and runs whose process died:",
            '*/10 * * * *  batchgauge push --owed > /dev/null 2>&1 || echo "a push is still owed, see: batchgauge list"',
        ]
        for zone in dict.fromkeys(entry.zone for entry in elsewhere):
            lines += [
                "",
                f"# Times of {zone.key}. cronie obeys CRON_TZ; Debian's cron does not, and takes them for the machine's.",
                f"CRON_TZ={zone.key}",
                *(self._line(entry) for entry in elsewhere if entry.zone == zone),
            ]
        return "\n".join(lines) + "\n"

    def notes(self) -> list[str]:
        """What to tell the person who installs it."""
        machine = self.machine.key
        found = [
            f"{entry.file}: its times are those of {entry.zone.key}, and this machine's zone is {machine}. cronie obeys the "
            f"CRON_TZ above it; Debian's cron ignores that and would start it at '{entry.schedule}' of {machine}, while the "
            f"run that is due counts as missed. There, use 'batchgauge systemd', or say the times in {machine} in the job file"
            for entry in self.elsewhere()
        ]
        if self.logs and not self.logs.is_dir():
            found.append(f"the folder for logs is not there yet: mkdir -p {shlex.quote(str(self.logs))}")
        return found

    def _head(self) -> list[str]:
        lines = [
            f"# Made by: batchgauge crontab. Times are those of {self.machine.key}, the machine's zone.",
            "# Cron mails what a line prints, so these print only when something is wrong: exit codes are in the README",
            "# (5, the job is still running, is counted as skipped).",
        ]
        if self.mailto is not None:
            lines.append(_setting("MAILTO", self.mailto))
        lines.append(_setting("PATH", f"{self.programs}:/usr/bin:/bin"))
        return [*lines, *(_setting(name, value) for name, value in self.settings.items())]

    def _line(self, entry: Entry) -> str:
        run = f"batchgauge run {_word(entry.file)} --trigger cron"
        if self.logs is None:
            command = f"""report=$({run} 2>&1) || printf '\\%s\\n' "$report\""""
        else:
            log = _word(self.logs / f"{of_job(entry.job)}.log")
            command = f"{run} >> {log} 2>&1 || echo exit $?, see {log}"
        return f"{entry.schedule}  {_fitting(command, str(entry.file))}"


def _word(path: Path) -> str:
    """A path as one word of the shell, as cron hands it on: it takes a bare percent sign for a line's end.

    A backslash is followed by an empty pair of quotes, for cron would make one of two, or take it for a percent sign's.
    """
    return shlex.quote(str(path)).replace("\\", "\\''").replace("%", "\\%")


def _setting(name: str, value: str) -> str:
    quote = next((mark for mark in ('"', "'") if mark not in value), None)
    bare = value and value == value.strip() and value[0] not in "\"'"
    if not bare and quote is None:
        raise SpecError(f"{name}={value}: a crontab can't hold a value that begins with a quote and has both kinds")
    return _fitting(f"{name}={value}" if bare else f"{name}={quote}{value}{quote}", name)


def _fitting(text: str, what: str) -> str:
    if _UNSAYABLE.search(text):
        raise SpecError(f"{what!r}: a crontab can't hold line ends, control characters and what is no text; rename it")
    if len(text.encode()) > _LONGEST:
        raise SpecError(
            f"{what}: its line would have more than {_LONGEST} bytes, which Debian's cron cuts off; use shorter paths"
        )
    return text


def _same_clock(one: ZoneInfo, other: ZoneInfo, now: datetime) -> bool:
    """Whether two zones show the same time, whatever they are called, for two years to come."""
    hours = (now + timedelta(hours=hour) for hour in range(_SAME_FOR_HOURS))
    return one.key == other.key or all(hour.astimezone(one).utcoffset() == hour.astimezone(other).utcoffset() for hour in hours)


def machine_zone(localtime: Path = _LOCALTIME) -> ZoneInfo:
    """The zone that cron reads times in, by the name that this machine has for it; UTC where none is set."""
    try:
        name = str(localtime.resolve()).rpartition("/zoneinfo/")[2]
        with localtime.open("rb") as opened:
            return ZoneInfo.from_file(opened, key=name)
    except FileNotFoundError:
        return ZoneInfo("UTC")
    except (OSError, ValueError) as error:
        raise SpecError(f"{localtime}: can't tell this machine's time zone: {error}") from error


def example() -> str:
    """`crontab.example`: the example jobs, installed in a folder that everybody may think of as theirs."""
    home = Path("/srv/batchgauge")
    jobs, _ = scheduled(load_all([_ROOT / "jobs" / "examples"]))
    return Crontab(
        entries=[replace(entry, file=home / entry.file.relative_to(_ROOT)) for entry, _ in jobs],
        programs=home / ".batchgauge" / "venv" / "bin",
        settings={"BATCHGAUGE_LEDGER": "/var/lib/batchgauge/ledger.db", "BATCHGAUGE_GATEWAY": "http://127.0.0.1:9091"},
        machine=ZoneInfo("UTC"),
        mailto="ops@example.com",
        logs=Path("/var/log/batchgauge"),
    ).text()


if __name__ == "__main__":
    sys.stdout.write(example())
