"""The units that `batchgauge systemd` writes: when their timers fire, and what their services run.

What systemd makes of the texts below was asked of systemd itself when they were written: of `systemd-analyze calendar`
for times (90,000 of them, over all cron texts of test_trigger.py), of a running systemd for quoting and sandboxing.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import systemd, timetable
from jobs.environment import read
from jobs.oncalendar import calendar
from jobs.spec import JobSpec, load
from monitoring.ledger import Ledger
from pipelines.errors import SpecError
from tests.cron_oracle import fire_times
from tests.tiny_job import SPEC, TinyJob

BIN = Path(sys.executable).parent
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SPRING, AUTUMN = datetime(2027, 3, 27, tzinfo=UTC), datetime(2027, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("15 2 * * *", ["*-*-* 02:15:00 UTC"]),
        ("@daily", ["*-*-* 00:00:00 UTC"]),
        ("@hourly", ["*-*-* *:00:00 UTC"]),
        ("* * * * *", ["*-*-* *:*:00 UTC"]),
        ("*/20 8-18 * * MON-FRI", ["Mon..Fri *-*-* 08..18:00,20,40:00 UTC"]),
        ("0,1,2,5 0 * * *", ["*-*-* 00:00..02,05:00 UTC"]),
        ("0 0 * * 0", ["Sun *-*-* 00:00:00 UTC"]),
        ("0 0 * * 7", ["Sun *-*-* 00:00:00 UTC"]),
        ("0 0 * * 6,0,1", ["Mon,Sat,Sun *-*-* 00:00:00 UTC"]),
        ("0 0 * * 5-7", ["Fri..Sun *-*-* 00:00:00 UTC"]),
        ("30 4 1,15 * 5", ["*-*-01,15 04:30:00 UTC", "Fri *-*-* 04:30:00 UTC"]),  # either day
        ("0 0 13 * */2", ["Tue,Thu,Sat,Sun *-*-13 00:00:00 UTC"]),  # a star: both
        ("0 0 29 2 *", ["*-02-29 00:00:00 UTC"]),
        ("0 12 1-7 jan,JUL-dec/2 *", ["*-01,07,09,11-01..07 12:00:00 UTC"]),
    ],
)
def test_a_cron_text_as_systemd_says_it(text: str, values: list[str]) -> None:
    """Lists, ranges, steps and names; 0 and 7 are Sunday; two values when either day will do."""
    assert calendar(text, ZoneInfo("UTC"), NOW) == values


def test_what_systemd_leaves_out_at_clock_changes_is_added() -> None:
    """Ten years of them: a time in the gap is made up for at its end, a starred one runs in both of two equal hours."""
    gap = calendar("30 2 * * *", ZoneInfo("Europe/Berlin"), NOW)
    assert gap[:3] == ["*-*-* 02:30:00 Europe/Berlin", "2027-03-28 01:00:00 UTC", "2028-03-26 01:00:00 UTC"]
    assert len(gap) == 1 + 10
    twice = calendar("*/10 2 * * *", ZoneInfo("Europe/Berlin"), NOW)
    assert twice[:2] == ["*-*-* 02:00,10,20,30,40,50:00 Europe/Berlin", "2027-10-31 01:00,10,20,30,40,50:00 UTC"]
    assert len(twice) == 1 + 10
    assert calendar("0 12 * * *", ZoneInfo("Europe/Berlin"), NOW) == ["*-*-* 12:00:00 Europe/Berlin"]


def test_where_winter_is_the_shifted_time_the_whole_day_is_listed() -> None:
    """Of `*-*-* 01..03:00:00 Europe/Dublin` systemd makes nothing on the day that 1:00 is left out: it goes on a day later."""
    dublin = calendar("0 1-3 * * *", ZoneInfo("Europe/Dublin"), NOW)
    assert dublin[:4] == [
        "*-*-* 01..03:00:00 Europe/Dublin",
        *(f"2027-03-28 {hour:02}:00:00 UTC" for hour in (1, 2)),
        "2028-03-26 01:00:00 UTC",
    ]
    assert calendar("0 1-3 * * *", ZoneInfo("Europe/London"), NOW) == ["*-*-* 01..03:00:00 Europe/London"]


def minutes(start: datetime, end: datetime) -> Iterator[datetime]:
    """After `start`, up to `end`."""
    return (start + timedelta(minutes=minute) for minute in range(1, round((end - start).total_seconds()) // 60 + 1))


def elapses(values: list[str], minute: datetime) -> bool:
    """Whether a timer with these values elapses in this minute, as systemd has it.

    A time that the clock skips never comes, and of two hours that show the same only the first counts.
    """
    return any(_shows(value, minute) for value in values)


def _shows(value: str, minute: datetime) -> bool:
    *week, date, time, zone = value.split()
    wall = minute.astimezone(ZoneInfo(zone))
    year, month, day = date.split("-")
    hour, at, _ = time.split(":")
    numbers = [(at, wall.minute), (hour, wall.hour), (day, wall.day), (month, wall.month), (year, wall.year)]
    return not wall.fold and all(_has(text, number) for text, number in numbers) and (not week or _has(week[0], wall.weekday()))


def _has(text: str, number: int) -> bool:
    def value(word: str) -> int:
        days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
        return days.index(word) if word in days else int(word)

    spans = (span.partition("..") for span in text.split(","))
    return text == "*" or any(value(first) <= number <= value(last or first) for first, _, last in spans)


@pytest.mark.parametrize("start", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize(
    "text", ["30 2 * * *", "0,30 2,3 * * *", "*/20 1-3 * * *", "0 */2 * * *", "@hourly", "15 1 28,31 * mon", "45 2 * * 0"]
)
def test_a_timer_fires_when_cron_would(text: str, start: datetime) -> None:
    """Over two days with a clock change, both ways: where systemd differs from cron, the values make up for it."""
    zone, end = ZoneInfo("Europe/Berlin"), start + timedelta(days=2)
    values = calendar(text, zone, NOW)
    fired = [minute for minute in minutes(start, end) if elapses(values, minute)]
    *expected, later = fire_times(text, zone, start, len(fired) + 1)
    assert fired == expected
    assert later > end


@pytest.mark.parametrize(
    ("job", "escaped"),
    [
        ("digits", "digits"),
        ("push", "push"),
        ("a/b-c d.e_f:9", r"a-b\x2dc\x20d.e_f:9"),
        (".hidden", r"\x2ehidden"),
        ("ä%@\\", r"\xc3\xa4\x25\x40\x5c"),
        ("..", r"\x2e."),
    ],
)
def test_a_unit_is_called_as_systemd_escape_says(job: str, escaped: str) -> None:
    """So that its name can be found with systemd-escape; never that of the push, nor of anything else."""
    assert systemd.unit_name(job) == f"batchgauge-job-{escaped}"
    assert systemd.unit_name(job) != systemd.PUSH


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_jobs_have_different_units(one: str, other: str) -> None:
    """Names of any characters."""
    assert (systemd.unit_name(one) == systemd.unit_name(other)) == (one == other)


@given(st.text(min_size=190), st.characters())
def test_long_names_fit_and_differ(long: str, last: str) -> None:
    """A unit's name has at most 255 characters, of a few kinds."""
    name = systemd.unit_name(long)
    assert re.fullmatch(r"[A-Za-z0-9:_.\\-]{1,240}", name)
    assert systemd.unit_name(long + last) != name


Unit = dict[str, list[str]]


def parsed(text: str) -> Unit:
    """Key → values, in the order given."""
    found: Unit = {}
    for key, value in re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def words(value: str) -> list[str]:
    r"""Words as systemd takes them apart: quotes, `\x..`, `%%` and (in commands) `$$`."""
    found = re.findall(r'"([^"]*)"|(\S+)', value)
    plain = (re.sub(r"\\x(..)", lambda code: chr(int(code[1], 16)), quoted or bare) for quoted, bare in found)
    return [word.replace("%%", "%").replace("$$", "$") for word in plain]


def host(folder: Path, **variables: str) -> systemd.Host:
    variables = {"BATCHGAUGE_LEDGER": str(folder / "state" / "ledger.db"), **variables}
    environment = read(variables)
    return systemd.Host(BIN, environment, timetable.settings(variables, environment), "batch", NOW)


def units_of(specs: list[JobSpec], host: systemd.Host) -> dict[str, Unit]:
    jobs, _ = timetable.scheduled(specs)
    return {str(name): parsed(text) for name, text in systemd.units(jobs, host).items()}


def service_of(spec: JobSpec, host: systemd.Host) -> Unit:
    return units_of([spec], host)[f"{systemd.unit_name(spec.job.name)}.service"]


def test_each_job_has_a_service_and_a_timer_that_makes_up_for_lost_time(tmp_path: Path) -> None:
    """And the push of what is owed has them too."""
    units = units_of([load(TinyJob(tmp_path).spec)], host(tmp_path))
    assert list(units) == [f"{name}.{kind}" for name in ("batchgauge-job-tiny", systemd.PUSH) for kind in ("service", "timer")]
    timer = units["batchgauge-job-tiny.timer"]
    assert (timer["OnCalendar"], timer["Persistent"], timer["AccuracySec"]) == (["*-*-* 02:15:00 UTC"], ["true"], ["1s"])
    assert timer["WantedBy"] == ["timers.target"]
    assert words(units["batchgauge-push.service"]["ExecStart"][0]) == [str(BIN / "batchgauge"), "push", "--owed"]
    assert units["batchgauge-push.timer"]["OnCalendar"] == ["*:00/10:00"]


def test_a_service_runs_its_job_wherever_its_files_lie(tmp_path: Path) -> None:
    """Spaces, quotes, percent and dollar signs come through; this runs the command as the unit says it."""
    job = TinyJob(tmp_path / "it's 50% of $HOME")
    job.edit({'"inbox/date={date}"': '"inbox"', '"scored/date={date}"': '"scored"'})
    job.write_input("2026-11-01", 300)
    service = service_of(load(job.spec), host(tmp_path / "a b%"))
    environment = dict(setting.split("=", 1) for line in service["Environment"] for setting in words(line))
    done = subprocess.run(words(service["ExecStart"][0]), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Ledger.open(tmp_path / "a b%" / "state" / "ledger.db") as ledger:
        (run,) = ledger.runs("tiny", limit=9)
    assert run.report is not None
    assert (run.report.trigger, run.report.outcome) == ("cron", "success")


def test_a_service_may_write_only_where_its_job_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output without its date, the ledger's folder, the textfile's; and it waits for all mounts it needs."""
    monkeypatch.setattr(systemd, "_TEMPORARY", ())
    job = TinyJob(tmp_path / "job", spec=SPEC.replace("scored/date={date}", "out/{date:%Y}/{date}"))
    spec = load(job.spec)
    service = service_of(spec, host(tmp_path, BATCHGAUGE_TEXTFILE=str(tmp_path / "text file")))
    written = [str(tmp_path / name) for name in ("job/out", "state", "text file")]
    assert words(service["ReadWritePaths"][0]) == written
    read_from = [str(spec.path), *(str(job.folder / name) for name in ("tiny.safetensors", "inbox", "labelled"))]
    assert words(service["RequiresMountsFor"][0]) == [str(BIN), *read_from, *written]
    assert (service["ProtectSystem"], service["NoNewPrivileges"], service["User"]) == (["strict"], ["true"], ["batch"])
    without = service_of(spec, host(tmp_path, BATCHGAUGE_TEXTFILE=""))
    assert words(without["ReadWritePaths"][0]) == written[:2]


def test_a_job_that_has_files_in_a_temporary_folder_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private one would hide them, so it gets the common one, and may write there as in a private one."""
    folder, temporary = TinyJob(tmp_path / "job").folder, tmp_path / "temporary"
    monkeypatch.setattr(systemd, "_TEMPORARY", (temporary,))
    apart = parsed_service(SPEC, folder)
    assert apart["PrivateTmp"] == ["true"]
    assert str(temporary) not in words(apart["ReadWritePaths"][0])
    inside = parsed_service(SPEC.replace('"scored/', '"../temporary/scored/'), folder)
    assert inside["PrivateTmp"] == ["false"]
    assert str(temporary) in words(inside["ReadWritePaths"][0])


def parsed_service(text: str, folder: Path) -> Unit:
    (folder / "tiny.toml").write_text(text)
    return service_of(load(folder / "tiny.toml"), host(folder))


@pytest.mark.parametrize(
    ("more", "start"), [("", "infinity"), ('timeout = "2h"', "7330"), ('timeout = "30d"', "2592130")], ids=["none", "2h", "30d"]
)
def test_a_service_leaves_the_run_time_to_end_itself(tmp_path: Path, more: str, start: str) -> None:
    """systemd's limits lie behind the job's own; partial and skipped runs are no failed units."""
    service = parsed_service(SPEC.replace('name = "tiny"', f'name = "tiny"\n{more}'), TinyJob(tmp_path).folder)
    assert (service["TimeoutStartSec"], service["TimeoutStopSec"]) == ([start], ["45"])
    assert (service["KillSignal"], service["KillMode"], service["SuccessExitStatus"]) == (["SIGTERM"], ["mixed"], ["3 5"])


def test_a_jobs_name_stays_in_its_line(tmp_path: Path) -> None:
    """A name with a line end adds no setting, and one with a percent sign is no specifier."""
    spec = SPEC.replace('"tiny"', '"a\\nExecStart=/bin/id\\\\ %n"')
    (text,) = {parsed_service(spec, TinyJob(tmp_path).folder)["Description"][0]}
    assert text == "batchgauge job a?ExecStart=/bin/id? %%n, one run"


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "line\nend"])
def test_a_path_that_no_unit_can_name_is_an_error(tmp_path: Path, name: str) -> None:
    """systemd has no way to write it in a list of paths."""
    job = TinyJob(tmp_path / name)
    with pytest.raises(SpecError, match="can't name a path with double quotes, backslashes or line ends in it; rename it"):
        service_of(load(job.spec), host(tmp_path))


def command(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "batchgauge", "systemd", *arguments], env=variables, capture_output=True, text=True, check=False
    )


def test_the_command_writes_units_and_says_how_to_install_them(tmp_path: Path) -> None:
    """It overwrites nothing that differs, and names the folders that a service would miss."""
    job, folder, ledger = TinyJob(tmp_path / "job"), tmp_path / "units", str(tmp_path / "job" / "l.db")
    done = command(job.spec, "--output", folder, "--user", "batch", BATCHGAUGE_LEDGER=ledger)
    assert done.returncode == 0, done.stderr
    assert f"install -d -o batch {tmp_path}/job/scored\n" in done.stderr
    assert "systemctl enable --now batchgauge-job-tiny.timer batchgauge-push.timer" in done.stderr
    text = (folder / "batchgauge-job-tiny.service").read_text(encoding="utf-8")
    assert "User=batch\n" in text
    assert command(job.spec, "--output", folder, "--user", "batch", BATCHGAUGE_LEDGER=ledger).returncode == 0
    other = command(job.spec, "--output", folder, "--user", "other", BATCHGAUGE_LEDGER=ledger)
    assert (other.returncode, "--force overwrites them" in other.stderr) == (1, True)
    assert command(job.spec, "--output", folder, "--user", "other", "--force", BATCHGAUGE_LEDGER=ledger).returncode == 0
    assert "User=other\n" in (folder / "batchgauge-job-tiny.service").read_text(encoding="utf-8")


def test_a_secret_is_not_written(tmp_path: Path) -> None:
    """Anybody can read a unit."""
    job = TinyJob(tmp_path)
    variables = {"BATCHGAUGE_BEARER_TOKEN": "hunter2", "HOME": str(tmp_path)}
    done = command(job.spec, "--output", tmp_path / "units", **variables)
    assert (done.returncode, (tmp_path / "units").exists()) == (2, False)
    assert "set BATCHGAUGE_BEARER_TOKEN_FILE to its path instead" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("someone-else", "set BATCHGAUGE_LEDGER to a file that someone-else may write"),
        ("root\nExecStart=x", "give a user's name"),
    ],
)
def test_a_user_that_will_not_do_is_refused(tmp_path: Path, user: str, message: str) -> None:
    """Another user can't write the ledger in the home of who asks; and a user is one word."""
    job = TinyJob(tmp_path)
    variables = {"BATCHGAUGE_LEDGER": str(tmp_path / "l.db")} if "\n" in user else {"HOME": str(tmp_path)}
    done = command(job.spec, "--output", tmp_path / "units", "--user", user, **variables)
    assert done.returncode == 2
    assert message in done.stderr


def test_units_are_plain_files(tmp_path: Path) -> None:
    """One folder, no sub-folders, whatever the job is called."""
    job = TinyJob(tmp_path, spec=SPEC.replace('"tiny"', '"../../etc/passwd"'))
    jobs, _ = timetable.scheduled([load(job.spec)])
    assert all(name.parent == PurePosixPath() for name in systemd.units(jobs, host(tmp_path)))
