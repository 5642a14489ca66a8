"""What the dashboards show of real jobs: every query of every panel, asked of a real Prometheus that scrapes a real gateway."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from dashboards import build, check
from dashboards.check import Answer, CheckFailed, Source
from dashboards.grafana import ALL, Chosen
from monitoring import servers
from tests.conftest import poll
from tests.dashboard_world import (
    CROWD,
    ENVIRONMENTS,
    FAILED_IN_CROWD,
    FULL,
    JOBS,
    LATE,
    NAMED,
    NASTY_DIMENSION,
    NASTY_HOLDOUT,
    NEVER_RAN,
    NOT_NUMBERS,
    PLAIN,
    REAL,
    SURELY_BAD,
    TWIN,
    World,
    alarmed,
    crowded,
)

FLEET, RUN, QUALITY = "Fleet", "Batch run", "Model quality"


@dataclass(frozen=True, slots=True)
class Screen:
    """The dashboards of a world, opened at an instant."""

    source: Source
    now: float

    def answers(self, title: str, **chosen: Chosen) -> list[Answer]:
        """What a dashboard asks and is told, with these choices."""
        return check.opened(dashboard(title), self.source, chosen, now=self.now)

    def panel(self, title: str, panel: str, **chosen: Chosen) -> list[Answer]:
        """One panel's answers."""
        found = [one for one in self.answers(title, **chosen) if one.panel == panel]
        assert found, f"{title} has no panel {panel!r}"
        return found

    def options(self, title: str, variable: str, **chosen: Chosen) -> tuple[str, ...]:
        """A variable's list."""
        return check.options(dashboard(title), variable, self.source, chosen)


def dashboard(title: str) -> Mapping[str, Any]:
    (found,) = [one for one in build.written() if one["title"] == title]
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with crowded(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def screen(world: World) -> Iterator[Screen]:
    with Source(world.prometheus.url) as source:
        yield Screen(source, world.count("vector(time())"))


def value(answer: Answer, **labels: str) -> float:
    """The number of the one series that has these labels."""
    (found,) = [one.value for one in answer.series if labels.items() <= one.labels.items()]
    return found


def test_every_query_has_an_answer_for_a_job_that_has_everything(screen: Screen) -> None:
    """Two holdouts' worth of figures, a timeout, an accelerator: nothing that a panel asks for stays unanswered."""
    found = [one for title in (RUN, QUALITY) for one in screen.answers(title, job=FULL)]
    found += screen.answers(FLEET, job=ALL)
    assert [(one.panel, one.query) for one in found if not one.series] == []


@pytest.mark.parametrize("job", [FULL, REAL, TWIN, NAMED, SURELY_BAD, CROWD[7]])
def test_no_panel_is_empty(screen: Screen, job: str) -> None:
    """Of a job that has run and was judged, on any dashboard."""
    found = [one for title in (FLEET, RUN, QUALITY) for one in screen.answers(title, job=job)]
    assert check.empty_panels(found) == []


def test_no_panel_is_empty_for_a_job_without_holdouts(screen: Screen) -> None:
    """Neither of its fleet nor of its runs; and the quality dashboard doesn't offer it."""
    found = [one for title in (FLEET, RUN) for one in screen.answers(title, job=PLAIN)]
    assert check.empty_panels(found) == []
    assert PLAIN in screen.options(RUN, "job")
    assert PLAIN not in screen.options(QUALITY, "job")


@pytest.mark.parametrize("since", ["15m", "2d", "90d", "365d"])
def test_no_panel_is_empty_over_any_time_range(screen: Screen, since: str) -> None:
    """A job runs once a night: a figure of its last run, or of a day, is there whatever stretch of time is looked at."""
    for title in (FLEET, RUN, QUALITY):
        stretched = {**dashboard(title), "time": {"from": f"now-{since}", "to": "now"}}
        assert check.empty_panels(check.opened(stretched, screen.source, {"job": REAL}, now=screen.now)) == []


def test_a_real_jobs_figures_are_shown(screen: Screen) -> None:
    """Three nights of 300 rows, 7 of them not numbers in the second; 10 wrong labels of 200."""
    (state,) = screen.panel(RUN, "Last run", job=REAL)
    assert value(state) == 2
    (rejected,) = screen.panel(RUN, "Which rows were rejected?", job=REAL)
    assert NOT_NUMBERS <= value(rejected, reason="nan") < 2 * NOT_NUMBERS  # increase() extrapolates
    assert value(rejected, reason="null") == 0
    (accuracy,) = screen.panel(QUALITY, "Accuracy", job=REAL)
    assert value(accuracy, holdout="labelled") == 0.95
    figure, upper, lower, threshold = screen.panel(QUALITY, "How accurate is it?", job=REAL)
    assert (value(figure), value(threshold)) == (0.95, 0.9)
    assert value(lower) < value(figure) < value(upper)
    (model,) = screen.panel(QUALITY, "Model", job=REAL)
    assert value(model, version="v1") == 1
    assert screen.options(QUALITY, "holdout", job=REAL) == ("labelled",)
    assert screen.options(QUALITY, "dimension", job=REAL, holdout=ALL) == ("side",)


def test_the_fleet_counts_its_jobs(screen: Screen) -> None:
    counts = {one.panel: one.series[0].value for one in screen.answers(FLEET, job=ALL) if one.query == "A"}
    assert counts["Jobs"] == len(JOBS) + len(ENVIRONMENTS) + len(CROWD)
    assert counts["Failed"] == FAILED_IN_CROWD + 1
    assert counts["Models surely below"] == 1
    assert counts["Alerts firing"] == 0
    up, down = screen.panel(FLEET, "Gateways", job=ALL)
    assert (value(up), value(down)) == (1, 0)


def test_the_fleet_has_one_row_for_each_job(screen: Screen) -> None:
    """All columns have the same labels, and no metric name: so Grafana joins them to a row. Two environments are two rows."""
    columns = columns_of(screen, "Which job needs a look?", FLEET, job=ALL)
    rows = {frozenset(one.labels.items()) for one in columns["Last run"].series}
    expected = [{"job": job} for job in (*JOBS, *CROWD)] + [{"job": TWIN, "env": one} for one in ENVIRONMENTS]
    assert rows == {frozenset(one.items()) for one in expected}
    for name, column in columns.items():
        labels = [frozenset(one.labels.items()) for one in column.series]
        assert len(set(labels)) == len(labels), name
        assert set(labels) <= rows, name
    assert {frozenset(one.labels.items()) for one in columns["Alerts"].series} == rows


def test_the_fleet_shows_what_is_wrong(screen: Screen) -> None:
    """State, schedule and verdict, as the numbers that words stand for."""
    columns = columns_of(screen, "Which job needs a look?", FLEET, job=ALL)
    assert value(columns["Last run"], job=SURELY_BAD) == 4
    assert value(columns["Last run"], job=NEVER_RAN) == 0
    assert value(columns["Schedule"], job=LATE) == 1
    assert value(columns["Schedule"], job=NAMED) == 0
    assert value(columns["Model"], job=SURELY_BAD) == 2
    assert value(columns["Model"], job=CROWD[0]) == 0
    assert PLAIN not in {one.labels["job"] for one in columns["Model"].series}


def columns_of(screen: Screen, panel: str, title: str, **chosen: Chosen) -> dict[str, Answer]:
    """A table's answers by the names of their columns."""
    (table,) = [one for one in dashboard(title)["panels"] if one["title"] == panel]
    names = table["transformations"][1]["options"]["renameByName"]
    return {names[f"Value #{one.query}"]: one for one in screen.panel(title, panel, **chosen)}


def test_two_environments_of_a_job_stay_two(screen: Screen) -> None:
    """Each figure of a run and of a model is there once for each."""
    for title, panel in ((RUN, "Last run"), (RUN, "How long did runs take?"), (QUALITY, "Good enough?"), (QUALITY, "Accuracy")):
        answer = screen.panel(title, panel, job=TWIN)[0]
        assert sorted(one.labels["env"] for one in answer.series) == sorted(ENVIRONMENTS), panel
        assert "{{env}}" in answer.legend, panel
    rows = columns_of(screen, "Which slices are worst?", QUALITY, job=TWIN)["Verdict"].series
    assert {(one.labels["env"], one.labels["value"]) for one in rows} == {
        (env, slice_) for env in ENVIRONMENTS for slice_ in ("a", "b\\🙂", "__other__")
    }


def test_slices_are_judged_beside_their_support(screen: Screen) -> None:
    """A good one, and one of 20 examples where 30 are needed; every column has the same rows."""
    columns = columns_of(screen, "Which slices are worst?", QUALITY, job=FULL)
    assert value(columns["Verdict"], value="a") == 0
    assert value(columns["Verdict"], value="__other__") == 3
    assert value(columns["Examples"], value="__other__") == 20
    rows = {frozenset(one.labels.items()) for one in columns["Upper bound"].series}
    assert len(rows) == 3
    for name, column in columns.items():
        assert {frozenset(one.labels.items()) for one in column.series} <= rows, name
        assert not any("__name__" in one.labels for one in column.series), name
    too_small, dropped = screen.panel(QUALITY, "Slices not judged", job=FULL)
    assert (value(too_small), value(dropped)) == (1, 4)


def test_a_slice_whose_upper_bound_is_too_low_is_surely_bad(screen: Screen) -> None:
    columns = columns_of(screen, "Which slices are worst?", QUALITY, job=NAMED, holdout=(NASTY_HOLDOUT,))
    assert value(columns["Verdict"]) == 2
    assert value(columns["Upper bound"]) == 0.54


def test_names_of_any_characters_are_found(screen: Screen) -> None:
    """Quotes, braces, backslashes, a newline, emoji: in a job, a holdout and a dimension, one or many chosen."""
    one_holdout = screen.answers(QUALITY, job=NAMED, holdout=(NASTY_HOLDOUT,), dimension=(NASTY_DIMENSION,))
    two_holdouts = screen.answers(QUALITY, job=NAMED, holdout=(NASTY_HOLDOUT, "other"), dimension=(NASTY_DIMENSION, "scanner"))
    for found, holdouts in ((one_holdout, {NASTY_HOLDOUT}), (two_holdouts, {NASTY_HOLDOUT, "other"})):
        assert check.empty_panels(found) == []
        (accuracy,) = [one for one in found if one.panel == "Accuracy"]
        assert {one.labels["holdout"] for one in accuracy.series} == holdouts
        assert {one.labels["job"] for one in accuracy.series} == {NAMED}
        titles = {one.panel for one in found if one.panel == "How accurate is it?"}
        assert titles == {"How accurate is it?"}
    assert NAMED in screen.options(QUALITY, "job")


def test_a_newline_in_a_jobs_name_leaves_the_lists_of_its_holdouts_empty(screen: Screen) -> None:
    """Grafana can't read such a variable's query; then all are shown, and nothing is lost."""
    assert "\n" in NAMED
    assert screen.options(QUALITY, "holdout", job=NAMED) == ()
    (accuracy,) = screen.panel(QUALITY, "Accuracy", job=NAMED)
    assert {one.labels["holdout"] for one in accuracy.series} == {NASTY_HOLDOUT, "other"}


def test_lists_are_narrowed_by_what_was_chosen(screen: Screen) -> None:
    """A job's holdouts, a holdout's dimensions."""
    assert screen.options(QUALITY, "holdout", job=FULL) == ("labelled",)
    assert screen.options(QUALITY, "dimension", job=FULL, holdout=("labelled",)) == ("scanner",)
    assert screen.options(QUALITY, "dimension", job=FULL, holdout=("other",)) == ()


def test_marks_are_at_the_ends_of_runs_and_at_new_models(screen: Screen) -> None:
    """A run's mark is at its end, in milliseconds; a model that was not there an hour ago is new."""
    runs = check.marks(dashboard(RUN), screen.source, {"job": FULL}, now=screen.now)
    assert [value(one) for one in runs] == [1795227400.25 * 1000]
    (models,) = check.marks(dashboard(QUALITY), screen.source, {"job": FULL}, now=screen.now)
    assert value(models, version="2026-11-22") == 1


def test_alerts_of_our_rules_are_counted_beside_their_job(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With our rules loaded: a row stays one row, whatever labels its alerts have."""
    with alarmed(tmp_path_factory.mktemp("alarmed")) as world, Source(world.prometheus.url) as source:
        screen = Screen(source, world.count("vector(time())"))
        columns = columns_of(screen, "Which job needs a look?", FLEET, job=ALL)
        rows = {frozenset(one.labels.items()) for one in columns["Last run"].series}
        assert {frozenset(one.labels.items()) for one in columns["Alerts"].series} == rows
        assert value(columns["Alerts"], job=SURELY_BAD) >= 2
        (firing,) = screen.panel(FLEET, "Alerts firing", job=ALL)
        assert value(firing) == sum(one.value for one in columns["Alerts"].series) > 0
        (of_one,) = screen.panel(RUN, "Alerts firing", job=SURELY_BAD)
        assert value(of_one) == value(columns["Alerts"], job=SURELY_BAD)


def test_check_prints_each_panel_and_its_values(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--check", world.prometheus.url, "--job", REAL]) == 0
    said = capsys.readouterr().out
    assert "Which job needs a look?" in said
    assert "How long did runs take?" in said
    assert "labelled 0.95" in said
    assert said.endswith("no panel is empty\n")


def test_check_looks_at_the_first_job_by_default(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """As Grafana does when a dashboard is opened."""
    assert build.main(["--check", world.prometheus.url]) == 0
    assert f"(job {min((*JOBS, *CROWD, TWIN))})" in capsys.readouterr().out


def test_check_names_what_is_empty_and_exits_1(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A job that never ran has no duration to show."""
    assert build.main(["--check", world.prometheus.url, "--job", NEVER_RAN]) == 1
    said = capsys.readouterr().out
    assert "empty: Batch run: How fast? (job new)" in said
    assert "empty: Batch run: How long did runs take?" not in said  # the line of its timeout is there


def test_check_says_which_jobs_there_are(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--check", world.prometheus.url, "--job", "nobody"]) == 1
    said = capsys.readouterr().err
    assert "no job 'nobody' in that Prometheus; it has" in said
    assert FULL in said


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", ""])
def test_check_says_that_nobody_answers(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--check", url]) == 1
    assert "is it a Prometheus that is up?" in capsys.readouterr().err


def test_check_says_that_it_is_no_prometheus(pushgateway: servers.Server, capsys: pytest.CaptureFixture[str]) -> None:
    """A gateway answers with a page."""
    assert build.main(["--check", pushgateway.url]) == 1
    assert "does not answer as a Prometheus does; give its base URL" in capsys.readouterr().err


def test_a_query_that_prometheus_refuses_is_quoted_with_its_words(world: World) -> None:
    with Source(world.prometheus.url) as source, pytest.raises(CheckFailed, match=r"refused .*sum\(.*parse error"):
        source.instant("sum(", at=0.0)


def test_an_empty_fleet_says_zero(prometheus: servers.Server) -> None:
    """Where nothing was pushed yet, counts are 0 rather than missing."""
    names = ("Jobs", "Failed", "Missed", "Models surely below", "Alerts firing")

    def counts() -> dict[str, list[float]]:
        found = Screen(source, time.time()).answers(FLEET, job=ALL)
        return {one.panel: [series.value for series in one.series] for one in found if one.panel in names}

    with Source(prometheus.url) as source:
        poll(lambda: counts() == {name: [0.0] for name in names})
