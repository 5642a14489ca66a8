"""The crontab that ships as an example."""

from __future__ import annotations

from pathlib import Path

from jobs.spec import load

ROOT = Path(__file__).parent.parent


def test_cron_starts_the_examples_when_their_job_files_say() -> None:
    """One schedule, in two places: they must agree, or every night counts as missed."""
    lines = (ROOT / "crontab.example").read_text(encoding="utf-8").splitlines()
    for spec in sorted((ROOT / "jobs" / "examples").glob("*.toml")):
        (line,) = [line for line in lines if f"jobs/examples/{spec.name}" in line]
        assert line.startswith(f"{load(spec).job.schedule}  ")
