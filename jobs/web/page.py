"""`/`: all jobs on one page, those that need somebody first. No script; a filter is a form, a choice is a link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from jobs.foreign import name, text
from jobs.report.look import style, templates
from jobs.report.words import Clock, duration, plural, rough
from jobs.web.board import Board, Overview
from jobs.web.queries import PageQuery, understood
from jobs.web.reports import FRAMES
from jobs.web.rows import Group, Judged, Row, common_axis, judged, link, row
from jobs.web.shelf import Shelf

MOST_ROWS = 500
"""Rows on one page; the others are a link away."""

_HERE = Path(__file__).parent
_KINDS = ("attention", "running", "waiting", "missed", "failed", "partial", "success", "idle")
_MOST_LISTED = 20
_KEPT_PAGES = 8
_RELOAD_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Choice:
    """A link that narrows the page."""

    label: str
    count: str
    address: str
    chosen: bool
    kind: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about the scheduler, or a file, that somebody should know. `sign` says how bad it is."""

    sign: str
    level: str
    sentence: str
    detail: str


@dataclass(frozen=True, slots=True)
class Listed:
    """Jobs that the scheduler is at: (name, address, note) each; `unsaid` more are left out."""

    title: str
    ordered: bool
    jobs: tuple[tuple[str, str, str], ...]
    unsaid: int


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one group; `count` of all that there are, on this page or not. `calm`: nobody has to look at them closely."""

    title: str
    count: int
    calm: bool
    rows: tuple[Row, ...]


class BoardPage:
    """Makes the page. `kept_seconds`: for how long a page is given again, to whoever asks the same."""

    def __init__(self, board: Board, *, kept_seconds: float = 1.0) -> None:
        self._board = board
        self._style = style(_HERE / "board.css", forms=True)
        self._shelf: Shelf[str] = Shelf(room=_KEPT_PAGES, seconds=kept_seconds, now=board.now)

    def answer(self, request: Request) -> Response:
        """The page as it was asked for. A ledger that can't be read is told on it: the scheduler's state is known still."""
        query = understood(PageQuery, request.query_params)
        page = self._shelf.get(query, lambda: self.page(self._board.look(), query))
        reload = {} if query.refresh is None else {"Refresh": str(query.refresh)}
        return HTMLResponse(page, headers={"Content-Security-Policy": self._style.policy + FRAMES, **reload})

    def page(self, overview: Overview, query: PageQuery) -> str:
        """The page of these jobs."""
        jobs = judged(overview.jobs, overview.at)
        named = [one for one in jobs if query.q.casefold() in one.job.job.casefold()]
        chosen = [one for one in named if query.state is None or one.is_a(query.state)]
        clock = Clock(overview.at, "UTC")
        return (
            templates(_HERE)
            .get_template("board.html.j2")
            .render(
                style=self._style,
                version=version("batchgauge"),
                made=clock.moment(overview.at),
                tone=_tone(overview, jobs),
                sentence=_sentence(overview, jobs),
                title=_title(jobs),
                problems=tuple(_problems(overview, clock)),
                lines=tuple(_lines(overview, clock)),
                lists=tuple(one for one in _lists(overview) if one.jobs),
                known=len(jobs),
                query=query,
                shown_q=name(query.q),
                choices=tuple(_choices(named, query)),
                reload=_reload(query),
                sections=tuple(_sections(chosen, overview.at, query.page)),
                ends=tuple(tick.label for tick in (common_axis(chosen).ticks[0], common_axis(chosen).ticks[-1])),
                pages=_pages(len(chosen), query),
                all_jobs=_address(query, state=None, q="", page=1),
            )
        )


def _address(query: PageQuery, **changes: object) -> str:
    """The page's address with other parameters; those that say nothing are left out."""
    values = query.model_dump() | changes
    told = {key: value for key, value in values.items() if value not in {None, ""} and (key, value) != ("page", 1)}
    return f"?{urlencode(told)}" if told else "./"


def _choices(jobs: Sequence[Judged], query: PageQuery) -> Iterator[Choice]:
    yield Choice("all", f"{len(jobs):,}", _address(query, state=None, page=1), query.state is None, "")
    for kind in _KINDS:
        count = sum(one.is_a(kind) for one in jobs)
        if count or kind == query.state:
            yield Choice(kind, f"{count:,}", _address(query, state=kind, page=1), kind == query.state, kind)


def _reload(query: PageQuery) -> tuple[str, str, str]:
    """What is so now, and the link (label, address) that changes it."""
    if query.refresh is None:
        return "", "Reload every minute", _address(query, refresh=_RELOAD_SECONDS)
    return f"Reloads every {duration(query.refresh)}.", "Stop", _address(query, refresh=None)


def _sections(jobs: Sequence[Judged], at: float, page: int) -> Iterator[Section]:
    axis = common_axis(jobs)
    counts = {group: sum(one.group is group for one in jobs) for group in Group}
    shown = jobs[(page - 1) * MOST_ROWS : page * MOST_ROWS]
    for group, members in groupby(shown, key=lambda one: one.group):
        calm = group in {Group.WELL, Group.NEVER}
        yield Section(str(group), counts[group], calm, tuple(row(one, at, axis) for one in members))


def _pages(count: int, query: PageQuery) -> tuple[str, str, str]:
    """Which rows these are, and the addresses of the pages before and after; empty where there is none."""
    if count <= MOST_ROWS:
        return "", "", ""
    first, last = (query.page - 1) * MOST_ROWS + 1, min(query.page * MOST_ROWS, count)
    said = f"{first:,} to {last:,} of {count:,} jobs" if first <= count else f"There are {count:,} jobs only"
    before = _address(query, page=query.page - 1) if query.page > 1 else ""
    return said, before, _address(query, page=query.page + 1) if last < count else ""


def _tone(overview: Overview, jobs: Sequence[Judged]) -> str:
    levels = {one.concerns[0].level for one in jobs if one.concerns}
    if overview.trouble or overview.scheduler.trouble or "critical" in levels:
        return "failed"
    if levels or overview.scheduler.broken or overview.unreadable or overview.unknown:
        return "partial"
    return "success" if jobs else "idle"


def _sentence(overview: Overview, jobs: Sequence[Judged]) -> str:
    if overview.trouble:
        read = "has never been read" if overview.read_at is None else "can't be read"
        return f"The ledger {read}: how the jobs are is not known."
    count = sum(bool(one.concerns) for one in jobs)
    if not jobs:
        return "There are no jobs yet."
    if count == 0:
        apart = overview.scheduler.broken or overview.unreadable or overview.unknown
        but = ", as far as they can be seen:" if apart else "."
        return f"The one job is well{but}" if len(jobs) == 1 else f"All {len(jobs):,} jobs are well{but}"
    needs = "needs" if count == 1 else "need"
    return f"{count:,} of {plural(len(jobs), 'job')} {needs} attention."


def _title(jobs: Sequence[Judged]) -> str:
    count = sum(bool(one.concerns) for one in jobs)
    return f"({count:,}) Jobs – batchgauge" if count else "Jobs – batchgauge"


def _problems(overview: Overview, clock: Clock) -> Iterator[Problem]:
    now = overview.scheduler
    if overview.trouble:
        stale = "" if overview.read_at is None else f" What follows is from {clock.moment(overview.read_at)}."
        yield Problem("failed", "critical", f"The ledger can't be read.{stale}", text(overview.trouble, longest=1000))
    if now.trouble and now.trouble != overview.trouble:
        yield Problem("failed", "critical", "The scheduler can't use the ledger.", text(now.trouble, longest=1000))
    if not now.ready:
        yield Problem("skipped", "note", "The scheduler is starting or stopping.", "")
    for broken in now.broken[:_MOST_LISTED]:
        kept = "its last good definition stays in force" if broken.running else "its job is not scheduled"
        yield Problem("partial", "warning", f"A job file can't be used; {kept}.", text(broken.error, longest=1000))
    for job, error in list(overview.unreadable.items())[:_MOST_LISTED]:
        yield Problem("partial", "warning", f"Job {name(job)} can't be read from the ledger.", text(error, longest=500))
    for job in overview.unknown[:_MOST_LISTED]:
        yield Problem("partial", "warning", f"Job {name(job)} is scheduled, and is not in the ledger.", "")


def _lines(overview: Overview, clock: Clock) -> Iterator[tuple[str, str]]:
    now = overview.scheduler
    yield "Running", f"{len(now.running):,} of at most {now.max_running:,}"
    yield "Waiting", f"{len(now.waiting):,}" if now.waiting else "none"
    yield "Last in sync", "never" if now.last_good_sync_at is None else clock.ago(now.last_good_sync_at)
    yield "Scheduling", f"{plural(len(now.jobs), 'job')}, for {duration(max(overview.at - now.began_at, 0.0))}"


def _lists(overview: Overview) -> Iterator[Listed]:
    now, at = overview.scheduler, overview.at
    runs = {one.job: one.state.running for one in overview.jobs}

    def progress(job: str) -> str:
        run = runs.get(job)
        return "starting" if run is None else f"for {duration(max(at - run.started_at, 0.0))}, {run.rows_read:,} rows so far"

    yield _listed("Running", [(one.job, progress(one.job)) for one in now.running])
    yield _listed("Waiting", [(one.job, f"for {rough(max(at - one.due_at, 0.0))}") for one in now.waiting], ordered=True)
    yield _listed(
        "Retraining",
        [(one.job, f"{'waits ' if one.waits else ''}for {rough(max(at - one.since, 0.0))}") for one in now.retraining],
    )


def _listed(title: str, jobs: Sequence[tuple[str, str]], *, ordered: bool = False) -> Listed:
    shown = tuple((name(job), link(job), note) for job, note in jobs[:_MOST_LISTED])
    return Listed(f"{title} ({len(jobs):,})", ordered, shown, len(jobs) - len(shown))
