"""The crontab that `batchgauge crontab` prints, and the one that ships as an example."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from jobs import crontab, timetable
from jobs.cli import app
from jobs.environment import read
from jobs.spec import load
from monitoring.ledger import Ledger
from pipelines.errors import SpecError
from tests.tiny_job import SPEC, TinyJob

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
UTC_ZONE, BERLIN = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def made(*found: timetable.Entry, **options: object) -> crontab.Crontab:
    return crontab.Crontab(
        **{"entries": found, "programs": BIN, "settings": {}, "machine": UTC_ZONE, "now": NOW, **options}  # type: ignore[arg-type]
    )


def entry(file: str = "/jobs/tiny.toml", *, job: str = "tiny", zone: ZoneInfo = UTC_ZONE) -> timetable.Entry:
    return timetable.Entry(job, Path(file), "15 2 * * *", zone)


def the_line(text: str) -> str:
    (line,) = [line for line in text.splitlines() if "--trigger cron" in line]
    return line


def environment(text: str) -> dict[str, str]:
    """The settings of a crontab, as crontab(5) says: blanks around a value go, and so does one pair of quotes."""
    found = re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)
    return {name: re.sub(r"""^(["'])(.*)\1$""", r"\2", value.strip()) for name, value in found}


def handed_to_the_shell(line: str, *, backslashes_halved: bool) -> str:
    r"""The command of a line. A bare `%` ends it, `\%` is a percent sign; in Debian's cron `\\` is one backslash."""
    command = line.split(maxsplit=5)[5]
    escaped = r"\\([%\\])" if backslashes_halved else r"\\(%)"
    whole, *_ = re.split(r"(?<!\\)%", command)
    return re.sub(escaped, r"\1", whole)


def run_as_cron(text: str, *, home: Path, backslashes_halved: bool) -> subprocess.CompletedProcess[str]:
    command = handed_to_the_shell(the_line(text), backslashes_halved=backslashes_halved)
    settings = {"HOME": str(home), **environment(text)}
    return subprocess.run(["/bin/sh", "-c", command], env=settings, cwd=home, capture_output=True, text=True, check=False)


def test_the_example_is_what_the_command_makes_of_the_example_jobs() -> None:
    """Made by: python -m jobs.crontab > crontab.example."""
    assert (ROOT / "crontab.example").read_text(encoding="utf-8") == crontab.example()


def test_cron_starts_the_examples_when_their_job_files_say() -> None:
    """One schedule, in two places: they must agree, or every night counts as missed."""
    lines = (ROOT / "crontab.example").read_text(encoding="utf-8").splitlines()
    for spec in sorted((ROOT / "jobs" / "examples").glob("*.toml")):
        (line,) = [line for line in lines if f"jobs/examples/{spec.name}" in line]
        assert line.startswith(f"{load(spec).job.schedule}  ")


@pytest.mark.parametrize("backslashes_halved", [True, False], ids=["Debian's cron", "cronie"])
def test_a_line_runs_its_job_wherever_its_files_lie(tmp_path: Path, *, backslashes_halved: bool) -> None:
    """Spaces, quotes, percent signs and backslashes come through cron and the shell; a good run prints nothing."""
    name = 'it\'s 50% \\ \\\\ \\% "$HOME" `id` #&;'
    job = TinyJob(tmp_path / name)
    job.edit({'"inbox/date={date}"': '"inbox"', '"scored/date={date}"': '"scored"'})
    job.write_input("2026-11-01", 300)
    (tmp_path / "home").mkdir()
    logs = tmp_path / f"logs of {name}"
    logs.mkdir()
    variables = {"BATCHGAUGE_LEDGER": str(tmp_path / f"ledger of {name}" / "ledger.db"), "BATCHGAUGE_GATEWAY": ""}
    ((scheduled, _),), _ = timetable.scheduled([load(job.spec)])
    text = made(scheduled, settings=timetable.settings(variables, read(variables)), logs=logs).text()
    done = run_as_cron(text, home=tmp_path / "home", backslashes_halved=backslashes_halved)
    assert (done.stdout, done.stderr) == ("", "")
    assert "300 scored, 0 rejected" in (logs / "tiny.log").read_text(encoding="utf-8")
    with Ledger.open(variables["BATCHGAUGE_LEDGER"]) as opened:
        (run,) = opened.runs("tiny", limit=9)
    assert run.report is not None
    assert (run.report.trigger, run.report.outcome) == ("cron", "success")


@pytest.mark.parametrize("logs", [True, False], ids=["logs", "no logs"])
def test_a_run_that_goes_wrong_is_mailed(tmp_path: Path, *, logs: bool) -> None:
    """What a line prints cron mails: the exit code and where to look, or the whole report."""
    job = TinyJob(tmp_path / "job")
    ((scheduled, _),), _ = timetable.scheduled([load(job.spec)])
    settings = {"BATCHGAUGE_LEDGER": str(tmp_path / "ledger.db")}
    text = made(scheduled, settings=settings, logs=tmp_path if logs else None).text()
    done = run_as_cron(text, home=tmp_path, backslashes_halved=True)
    expected = rf"exit 1, see {tmp_path}/tiny\.log\n" if logs else r"(?s)tiny · .* · failed in .*no Parquet files.*"
    assert re.fullmatch(expected, done.stdout)
    assert done.stderr == ""


def test_nicknames_and_odd_spaces_become_five_fields(tmp_path: Path) -> None:
    """The line is one that any cron reads in one way."""
    job = TinyJob(tmp_path, spec=SPEC.replace('"15 2 * * *"', '"@Weekly"'))
    ((scheduled, _),), _ = timetable.scheduled([load(job.spec)])
    assert the_line(made(scheduled).text()).startswith("0 0 * * 0  report=$(batchgauge run ")


def test_a_job_of_another_zone_comes_after_its_zone() -> None:
    """CRON_TZ holds for all lines below it, so the machine's own lines and the push come first."""
    text = made(entry("/jobs/berlin.toml", job="berlin", zone=BERLIN), entry()).text()
    order = ["/jobs/tiny.toml", "push --owed", "Debian's cron does not", "CRON_TZ=Europe/Berlin\n", "/jobs/berlin.toml"]
    assert sorted(map(text.index, order)) == list(map(text.index, order))
    assert text.count("CRON_TZ=") == 1


@pytest.mark.parametrize(
    ("zone", "machine", "same"),
    [
        ("UTC", "Etc/UTC", True),
        ("Europe/Berlin", "Europe/Vienna", True),
        ("Europe/London", "UTC", False),
        ("Africa/Lagos", "Europe/Berlin", False),  # the same in winter
    ],
)
def test_zones_are_told_apart_by_their_clocks(zone: str, machine: str, *, same: bool) -> None:
    """Another name for the machine's zone needs no CRON_TZ; a zone that differs in summer only does."""
    assert (made(entry(zone=ZoneInfo(zone)), machine=ZoneInfo(machine)).elsewhere() == []) is same


def test_the_machines_zone_is_the_one_that_localtime_names(tmp_path: Path) -> None:
    """By the link's name, and by the file's content; UTC without one, as everywhere on such a machine."""
    zones = Path("/usr/share/zoneinfo")
    link = tmp_path / "localtime"
    link.symlink_to(zones / "Europe" / "Berlin")
    assert crontab.machine_zone(link).key == "Europe/Berlin"
    copy = tmp_path / "copy"
    shutil.copyfile(zones / "Europe" / "Berlin", copy)
    assert NOW.astimezone(crontab.machine_zone(copy)).hour == 1
    assert crontab.machine_zone(tmp_path / "none").key == "UTC"
    (tmp_path / "broken").write_text("no zone")
    with pytest.raises(SpecError, match=r"broken: can't tell this machine's time zone"):
        crontab.machine_zone(tmp_path / "broken")


@pytest.mark.parametrize("value", ["", " padded ", "a b", "it's", '"quoted"', "'quoted'", "both \" and '", "50% #1"])
def test_a_setting_is_read_back_as_it_was(value: str) -> None:
    """Whatever blanks and quotes it has; an empty one too, which means nowhere."""
    assert environment(made(entry(), settings={"BATCHGAUGE_GATEWAY": value}).text())["BATCHGAUGE_GATEWAY"] == value


@pytest.mark.parametrize(
    ("crontab_of", "message"),
    [
        (made(entry("/jobs/two\nlines.toml")), r"two\\nlines\.toml': a crontab can't hold line ends"),
        (made(entry("/jobs/" + "x" * 990)), r"more than 998 bytes, which Debian's cron cuts off; use shorter paths"),
        (made(entry(), settings={"BATCHGAUGE_GATEWAY": "a\nb"}), r"BATCHGAUGE_GATEWAY': a crontab can't hold line ends"),
        (made(entry(), settings={"BATCHGAUGE_GATEWAY": "\"a' "}), "begins with a quote and has both kinds"),
        (made(entry(), mailto="me\n* * * * * id"), r"MAILTO': a crontab can't hold line ends"),
    ],
)
def test_what_a_crontab_cannot_say_is_an_error(crontab_of: crontab.Crontab, message: str) -> None:
    """Rather than a line that cron cuts, or a line too many."""
    with pytest.raises(SpecError, match=message):
        crontab_of.text()


def test_settings_are_those_that_are_set_and_hold_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cron starts in the home folder, so relative paths become absolute; the ledger is always named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("s3cret")
    variables = {"BATCHGAUGE_BEARER_TOKEN_FILE": "secret", "BATCHGAUGE_TEXTFILE": "", "HOME": "/h", "BATCHGAUGE_PASSWORD": ""}
    settings = timetable.settings(variables, read({**variables, "BATCHGAUGE_LEDGER": "sqlite:///state/l.db"}))
    assert settings == {
        "BATCHGAUGE_LEDGER": f"{tmp_path}/state/l.db",
        "BATCHGAUGE_BEARER_TOKEN_FILE": f"{tmp_path}/secret",
        "BATCHGAUGE_TEXTFILE": "",
    }


def command(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "batchgauge", "crontab", *arguments], env=variables, capture_output=True, text=True, check=False
    )


def test_the_command_prints_a_crontab_and_says_what_it_leaves_to_the_reader(tmp_path: Path) -> None:
    """Jobs without a schedule, zones that Debian's cron doesn't know, a folder for logs that isn't there."""
    TinyJob(tmp_path / "jobs")
    for name, schedule in (("noon", 'schedule = "0 12 * * *"\ntimezone = "Asia/Tokyo"'), ("hand", "")):
        spec = SPEC.replace('"tiny"', f'"{name}"').replace("scored", name).replace('schedule = "15 2 * * *"', schedule)
        (tmp_path / "jobs" / f"{name}.toml").write_text(spec)
    done = command(
        tmp_path / "jobs", "--mailto", "ops@example.com", "--logs", tmp_path / "logs", BATCHGAUGE_LEDGER=str(tmp_path / "l.db")
    )
    assert done.returncode == 0, done.stderr
    settings = environment(done.stdout)
    assert settings["PATH"].split(":")[0] == str(BIN)
    assert (settings["MAILTO"], settings["BATCHGAUGE_LEDGER"]) == ("ops@example.com", f"{tmp_path}/l.db")
    assert f"CRON_TZ=Asia/Tokyo\n0 12 * * *  batchgauge run {tmp_path}/jobs/noon.toml" in done.stdout
    assert "hand.toml" not in done.stdout
    assert f"{tmp_path}/jobs/hand.toml: has no schedule and is left out" in done.stderr
    assert f"{tmp_path}/jobs/noon.toml: its times are those of Asia/Tokyo" in done.stderr
    assert f"mkdir -p {tmp_path}/logs" in done.stderr


@pytest.mark.parametrize("name", ["BATCHGAUGE_PASSWORD", "BATCHGAUGE_BEARER_TOKEN"])
def test_a_secret_is_not_printed(tmp_path: Path, name: str) -> None:
    """A crontab is read by others; the error says what to set instead."""
    job = TinyJob(tmp_path)
    variables = {name: "hunter2", "BATCHGAUGE_LEDGER": str(tmp_path / "l.db")}
    if name == "BATCHGAUGE_PASSWORD":
        variables["BATCHGAUGE_USERNAME"] = "me"
    done = command(job.spec, **variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"set {name}_FILE to its path instead" in done.stderr
    assert "hunter2" not in done.stderr


def test_jobs_without_any_schedule_are_an_error(tmp_path: Path) -> None:
    """An empty crontab would replace a good one."""
    job = TinyJob(tmp_path, spec=SPEC.replace('schedule = "15 2 * * *"', ""))
    result = CliRunner().invoke(app, ["crontab", str(job.spec)])
    assert isinstance(result.exception, SpecError)
    assert "tiny.toml: no job has a schedule" in str(result.exception)
