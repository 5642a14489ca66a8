"""systemd units for jobs: a service and a timer each, as `batchgauge systemd` writes them.

A service may write only where its job does, and starts when the folders are there that it is to write to: a mount
that is missing makes the start fail, and not a run that fills the disk below it.
"""

from __future__ import annotations

import os
import os.path
import pwd
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from itertools import takewhile
from pathlib import Path, PurePosixPath

from jobs.environment import Environment
from jobs.oncalendar import calendar
from jobs.signals import GRACE_SECONDS
from jobs.spec import JobSpec
from jobs.timetable import Entry
from pipelines.errors import SpecError
from pipelines.uris import is_uri

PUSH = "batchgauge-push"
"""The unit that pushes what is owed. No job's unit is called so."""

_PREFIX = "batchgauge-job-"
_LONGEST_NAME = 200
_INSTALLED = "/etc/systemd/system"
_PUSH_MINUTES = 10

_START_UP_SECONDS = 120.0
"""What a run does outside of `job.timeout` beside its last push: importing, looking at the clock, recording."""
_BATCH_SECONDS = 30.0
"""How long the batch in hand may take to end when a run is stopped."""

_TWO_DAYS = date(1999, 1, 1), date(2000, 12, 30)
"""No format shows these two alike."""
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  to tell whether a job has its files there
_PLAIN = re.compile(r"[\w./:=%@+-]+", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_UNSAYABLE = re.compile(r"[\x00-\x1f\x7f\"\\\udc80-\udcff]")
"""Also the bytes of a path that are no text."""

_TIMER = """\
[Unit]
Description={description}

[Timer]
{times}
# A time that the machine slept through is made up for once, when it is up again.
Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""

_SERVICE = """\
# Made by: batchgauge systemd. Change the job file and make it again; what is the machine's own goes into a drop-in.
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target
RequiresMountsFor={needs}

[Service]
Type=oneshot
User={user}
{environment}
ExecStart={command}
{run}
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={writes}
PrivateTmp={private_tmp}
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectHostname=true
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
# Left out: PrivateDevices= and ProtectClock= hide accelerators, MemoryDenyWriteExecute= breaks kernels compiled at run time.
"""

_RUN = """\
# Partial (3), and skipped because it is running already (5), are ends that the metrics judge; the unit did what it should.
SuccessExitStatus=3 5
# At job.timeout a run ends itself. This is for one that can't, and for all that a run does beside scoring.
TimeoutStartSec={start}
# The first SIGTERM lets the batch in hand end; then the run records that it was stopped, and pushes.
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec={stop}
"""

_PUSH_RUN = """\
# Each job's push is bounded by push.timeout.
TimeoutStartSec=infinity
"""


@dataclass(frozen=True, slots=True)
class Host:
    """What units must know of the machine: where `batchgauge` is, what is set for it, and whom it runs as.

    Raises `SpecError` for a user that can't be one.
    """

    programs: Path
    environment: Environment
    settings: Mapping[str, str]
    user: str
    now: datetime

    def __post_init__(self) -> None:
        if not _USER.fullmatch(self.user):
            raise SpecError(f"--user {self.user!r}: give a user's name, or number")


def missing(jobs: Iterable[tuple[Entry, JobSpec]], environment: Environment) -> list[Path]:
    """The folders that a service is to write to and that are not there: it would not start."""
    wanted = {folder for _, spec in jobs for folder in folders(spec, environment)}
    return sorted(folder for folder in wanted if not folder.is_dir())


def units(jobs: Sequence[tuple[Entry, JobSpec]], host: Host) -> dict[PurePosixPath, str]:
    """File name → text, for each job, and for the push of what is owed. Raises `SpecError` for what no unit can hold."""
    files: dict[PurePosixPath, str] = {}
    for entry, spec in jobs:
        name = unit_name(entry.job)
        files[PurePosixPath(f"{name}.service")] = _run_service(spec, host)
        times = calendar(entry.schedule, entry.zone, host.now)
        files[PurePosixPath(f"{name}.timer")] = _timer(f"When batchgauge runs job {_shown(entry.job)}", times)
    files[PurePosixPath(f"{PUSH}.service")] = _push_service([spec for _, spec in jobs], host)
    files[PurePosixPath(f"{PUSH}.timer")] = _timer("When batchgauge pushes what is owed", [f"*:00/{_PUSH_MINUTES}:00"])
    return files


def steps(folder: Path, files: Iterable[PurePosixPath], missing: Sequence[Path], user: str) -> list[str]:
    """What is left to the administrator, as commands."""
    timers = " ".join(shlex.quote(str(file)) for file in files if file.suffix == ".timer")
    units_there = f"{shlex.quote(str(folder))}/batchgauge-*"
    make = f"without its folders a service doesn't start; make them: install -d -o {user} {shlex.join(map(str, missing))}"
    install = f"to install: cp {units_there} {_INSTALLED}/ && systemctl daemon-reload && systemctl enable --now {timers}"
    return [make, install] if missing else [install]


def current_user() -> str:
    """The name of the user who asks, or the number where there is no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def unit_name(job: str) -> str:
    """The job's unit, without suffix: a prefix and what `systemd-escape` makes of the name. Different jobs, different units.

    A very long one is cut and hashed; the backslash and dash before the hash are in no escaped name.
    """
    raw = job.encode(errors="surrogatepass")
    escaped = "".join(_escaped(byte, first=not place) for place, byte in enumerate(raw))
    if len(escaped) > _LONGEST_NAME:
        escaped = rf"{escaped[: _LONGEST_NAME - 34]}\-{sha256(raw).hexdigest()[:32]}"
    return _PREFIX + escaped


def _escaped(byte: int, *, first: bool) -> str:
    character = chr(byte)
    if character == "/":
        return "-"
    plain = character.isascii() and (character.isalnum() or character in ":_" or (character == "." and not first))
    return character if plain else f"\\x{byte:02x}"


def folders(spec: JobSpec, environment: Environment) -> list[Path]:
    """The folders that a run writes to: output, the ledger and what lies beside it, textfile."""
    textfile = spec.destination(environment).textfile
    found = [*_on_disk([spec.output.path]), environment.folder, *([Path(textfile).absolute()] if textfile else [])]
    return sorted(set(found))


def stop_seconds(spec: JobSpec) -> float:
    """How long a run may take to end when it is asked to: what is in hand, the record of the run, one push."""
    return GRACE_SECONDS + _BATCH_SECONDS + spec.push.timeout


def _reads(spec: JobSpec) -> list[Path]:
    model = spec.model.weights or spec.model.path
    data = [spec.input.path, *(holdout.path for holdout in spec.holdout)]
    files = [Path(model)] if model and not is_uri(model) else []
    return [spec.path, *files, *_on_disk(data)]


def _on_disk(paths: Iterable[str]) -> list[Path]:
    """What a unit must be let see of these: nothing of what is in an object store."""
    return [_fixed(path) for path in paths if not is_uri(path)]


def _fixed(template: str) -> Path:
    """The part of a path (absolute) that neither a date nor a glob changes."""
    common = os.path.commonpath([template.format(date=day) for day in _TWO_DAYS])
    return Path(*takewhile(lambda part: not re.search(r"[*?\[]", part), Path(common).parts))


def _run_service(spec: JobSpec, host: Host) -> str:
    beside = spec.push.timeout + _START_UP_SECONDS
    return _service(
        f"batchgauge job {_shown(spec.job.name)}, one run",
        ["run", str(spec.path), "--trigger", "cron"],
        host,
        run=_RUN.format(
            start="infinity" if spec.job.timeout is None else f"{spec.job.timeout + beside:.0f}",
            stop=f"{stop_seconds(spec):.0f}",
        ),
        reads=_reads(spec),
        writes=folders(spec, host.environment),
    )


def _push_service(specs: Iterable[JobSpec], host: Host) -> str:
    ledger = host.environment.folder
    textfiles = {Path(folder) for spec in specs if (folder := spec.destination(host.environment).textfile)}
    return _service(
        "batchgauge, push what is owed", ["push", "--owed"], host, run=_PUSH_RUN, reads=[], writes=sorted({ledger, *textfiles})
    )


def _service(
    description: str, arguments: Sequence[str], host: Host, *, run: str, reads: Sequence[Path], writes: Sequence[Path]
) -> str:
    command = [str(host.programs / "batchgauge"), *arguments]
    settings = [f"Environment={_word(f'{name}={value}')}" for name, value in host.settings.items()]
    needs = [host.programs, *reads, *writes]
    # A private /tmp would hide what lies in the common one. Either has to be writable: torch insists on it.
    shared = any(path.is_relative_to(folder) for path in needs for folder in _TEMPORARY)
    return _SERVICE.format(
        description=description,
        needs=_paths(needs),
        user=host.user,
        environment="\n".join(settings),
        command=" ".join(_word(word).replace("$", "$$") for word in command),
        run=run.rstrip(),
        writes=_paths([*writes, *_TEMPORARY] if shared else writes),
        private_tmp="false" if shared else "true",
    )


def _timer(description: str, times: Sequence[str]) -> str:
    return _TIMER.format(description=description, times="\n".join(f"OnCalendar={time}" for time in times))


def _word(text: str) -> str:
    """One word of a command or of `Environment=`, as systemd reads it back."""
    escaped = _UNSAYABLE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text).replace("%", "%%")
    return escaped if _PLAIN.fullmatch(escaped) else f'"{escaped}"'


def _paths(paths: Sequence[Path]) -> str:
    for path in paths:
        if _UNSAYABLE.search(str(path)):
            raise SpecError(
                f"{str(path)!r}: a unit can't name a path with double quotes, backslashes or line ends in it; rename it"
            )
    return " ".join(_word(str(path)) for path in dict.fromkeys(paths))


def _shown(job: str) -> str:
    """A job's name in a description: one line, no specifier, no backslash that could continue it."""
    return "".join(character if character.isprintable() and character != "\\" else "?" for character in job).replace("%", "%%")
