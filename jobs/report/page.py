"""From facts to one self-contained HTML page: no script, no network, nothing outside the file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jobs.foreign import name
from jobs.report.facts import Facts
from jobs.report.history import history
from jobs.report.last_run import last_run
from jobs.report.look import Style, style, templates
from jobs.report.quality import quality
from jobs.report.tiles import tiles
from jobs.report.verdict import Level, verdict
from jobs.report.words import duration

_HERE = Path(__file__).parent
_SIGNS = {Level.CRITICAL: "failed", Level.WARNING: "partial", Level.NOTE: "skipped"}


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands at the top of the page: the job, its state, and lines of (label, value)."""

    job: str
    state: str
    lines: tuple[tuple[str, str], ...]


def page(facts: Facts, *, home: str | None = None) -> str:
    """The page about a job. The same facts make the same page. `home` is the address of a page of all jobs to link to."""
    return (
        templates(_HERE)
        .get_template("page.html.j2")
        .render(
            heading=_heading(facts),
            verdict=verdict(facts.state, facts.clock, facts.failed_retrain),
            tiles=tiles(facts),
            last_run=last_run(facts),
            quality=quality(facts),
            history=history(facts),
            made=facts.clock.moment(facts.clock.now),
            zone_note=""
            if facts.clock.known_zone
            else f"Times are in UTC: this machine doesn't know the zone {name(facts.clock.zone)}.",
            version=version("batchgauge"),
            signs=_SIGNS,
            style=own_style(),
            home=home,
        )
    )


def own_style() -> Style:
    """The page's style sheet, and its policy for whoever serves it."""
    return style(_HERE / "page.css")


def _heading(facts: Facts) -> Heading:
    state, clock = facts.state, facts.clock
    lines = []
    if state.running is not None:
        running = state.running
        since = f"{clock.moment(running.started_at)}, {clock.ago(running.started_at)}"
        lines.append(("In progress since", f"{since}; {running.rows_read:,} rows so far"))
    if state.latest is not None:
        lines.append(("Last run ended", f"{clock.moment(state.latest.finished_at)}, {clock.ago(state.latest.finished_at)}"))
    else:
        lines.append(("Last run ended", "never"))
    due = state.next_expected_at
    lines.append(("Next run", "by hand" if due is None else f"{clock.moment(due)}, {clock.ago(due)}"))
    definition = state.definition
    if definition.schedule:
        grace = f"may be {duration(definition.grace_seconds)} late"
        lines.append(("Schedule", f"{name(definition.schedule)} ({name(definition.timezone)}), {grace}"))
    return Heading(name(definition.job, longest=200), state.name, tuple(lines))
