"""What is shown of a state, and how."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import replace
from math import isinf, isnan
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from monitoring import names
from monitoring.exposition import RUN_STATES, number, render
from monitoring.gateway import Gateway
from monitoring.servers import Server, find
from monitoring.state import JobState, RunningRun, Thresholds
from pipelines.report import Estimate, HoldoutReport, Outcome, SliceReport
from tests.conftest import poll
from tests.queries import scraped
from tests.reports import JOB, PUSHED_AT, definition, finished, full_state, holdout

GOLDEN = Path(__file__).parent / "golden" / "state.prom"


def shown(state: JobState) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every series, as the client's own parser reads the text."""
    parsed = text_string_to_metric_families(render(state, pushed_at=PUSHED_AT).decode())
    return {(sample.name, tuple(sample.labels.values())): sample.value for family in parsed for sample in family.samples}


def idle() -> JobState:
    return JobState(definition=replace(definition(), thresholds=Thresholds()), sequence=1, counters={})


def test_the_golden_exposition(tmp_path: Path) -> None:
    """One fixed report, every family. `python -m tests.reports > tests/golden/state.prom` writes it anew."""
    assert render(full_state(tmp_path), pushed_at=PUSHED_AT).decode() == GOLDEN.read_text(encoding="utf-8")


def test_the_golden_exposition_has_every_family() -> None:
    """So a family that is never shown is noticed."""
    types = [line.split()[2] for line in GOLDEN.read_text(encoding="utf-8").splitlines() if line.startswith("# TYPE")]
    assert types == [metric.name for metric in names.TABLE]


def test_promtool_finds_nothing_else() -> None:
    """The linter of Prometheus's own tools, on every family."""
    command = [str(find("promtool")), "check", "metrics"]
    checked = subprocess.run(command, input=GOLDEN.read_bytes(), capture_output=True, check=False)
    assert (checked.returncode, (checked.stdout + checked.stderr).decode()) == (0, "")


def test_a_real_gateway_and_prometheus_take_it_as_it_is(tmp_path: Path, pushgateway: Server, prometheus: Server) -> None:
    """Every series arrives with its value and labels; nothing is lost on the way."""
    state = full_state(tmp_path)
    Gateway(pushgateway.url).put({"job": JOB}, render(state, pushed_at=PUSHED_AT))
    expected = {name: value for (name, labels), value in shown(state).items() if not labels}
    poll(lambda: scraped(prometheus, 'batch_state_sequence{job="digits"}') == {(): str(state.sequence)})
    for name, value in expected.items():
        assert {key: float(text) for key, text in scraped(prometheus, f'{name}{{job="digits"}}').items()} == {(): value}
    slices = scraped(prometheus, 'model_slice_examples{job="digits"}', "dimension", "value")
    assert slices == {("scanner", "a"): "300", ("scanner", "b\\🙂"): "280", ("scanner", "__other__"): "20"}
    classes = scraped(prometheus, 'model_class_recall{job="digits"}', "class")
    assert classes == {("zero",): "0.967", ('"one"\n',): "0.933"}


@pytest.mark.parametrize(
    ("state", "name"),
    [
        (idle(), "idle"),
        (replace(idle(), latest=finished()), "success"),
        (replace(idle(), latest=finished(outcome=Outcome.PARTIAL)), "partial"),
        (replace(idle(), latest=finished(outcome=Outcome.FAILED)), "failed"),
        (replace(idle(), latest=finished(), running=RunningRun("r", "cron", "h", "", 1.0, 0, 0, 0)), "running"),
    ],
)
def test_exactly_one_run_state_is_one(state: JobState, name: str) -> None:
    """The others are 0, so that each has a series from the start."""
    series = shown(state)
    assert {one: series["batch_run_state", (one,)] for one in RUN_STATES} == {one: float(one == name) for one in RUN_STATES}


def test_nothing_is_shown_where_nothing_is_known() -> None:
    """A job that never ran has no rows, no latency, no quality: absent, not 0."""
    shown_names = {name for name, _ in shown(idle())}
    always = (names.RUN_STATE, names.GRACE, names.TIMEOUT, names.PUSH_INTERVAL, names.SEQUENCE, names.PUSHED)
    assert shown_names == {metric.name for metric in always}


def test_a_figure_without_anything_to_divide_by_is_absent() -> None:
    """Also NaN, should one slip in."""
    empty = HoldoutReport("labelled", 30, 1.0, accuracy=Estimate(float("nan"), 0.1, 0.2))
    series = shown(replace(idle(), quality={"labelled": empty}))
    assert ("model_accuracy", ("labelled",)) not in series
    assert ("model_recall", ("labelled",)) not in series
    assert series["model_slice_min_examples", ("labelled",)] == 30


def test_a_run_in_progress_shows_its_start_and_rows_beside_the_last_figures() -> None:
    """Latency, duration and end are of the run that ended."""
    running = RunningRun("run-9", "manual", "host-b", "v9", 5000.0, 12, 10, 2)
    series = shown(replace(idle(), latest=finished(), running=running))
    assert series["batch_run_started_timestamp_seconds", ()] == 5000.0
    assert series["batch_run_info", ("run-9", "manual", "v9", "host-b")] == 1
    assert [series["batch_run_rows", (one,)] for one in ("read", "scored", "rejected")] == [12, 10, 2]
    assert series["batch_run_duration_seconds", ()] == 100.25
    assert series["batch_run_finished_timestamp_seconds", ()] == finished().finished_at


def crowded(slices: int) -> JobState:
    crowd = tuple(
        SliceReport("id", f"s{number}", number, number, Estimate(1.0, 0.9, 1.0), Estimate(1.0, 0.9, 1.0), judged=True)
        for number in range(slices)
    )
    return replace(idle(), latest=finished(), quality={"labelled": replace(holdout(), slices=crowd)})


def test_the_smallest_slices_are_cut_at_the_limit() -> None:
    """Each with all its figures, and counted; a job can't take a whole scrape down."""
    series = shown(crowded(5000))
    assert names.MAX_SERIES_PER_JOB - 7 < len(series) <= names.MAX_SERIES_PER_JOB
    figures = Counter(labels[2] for name, labels in series if name.startswith("model_slice_") and len(labels) == 3)
    assert set(figures.values()) == {7}
    kept = sorted(int(value[1:]) for value in figures)
    assert kept == list(range(5000 - len(kept), 5000))
    classes = 2  # smaller than any slice that was kept, so they are cut too
    assert series["model_slices_dropped", ("labelled",)] == 4 + 5000 - len(kept) + classes


def test_below_the_limit_nothing_is_cut() -> None:
    """What the holdouts dropped themselves is all that was dropped."""
    assert shown(crowded(1000))["model_slices_dropped", ("labelled",)] == 4


@settings(deadline=None)
@given(st.floats() | st.integers(-(2**60), 2**60))
def test_a_number_reads_back_as_itself(value: float) -> None:
    """Whole numbers are written as such as long as a float holds them exactly."""
    text = number(value)
    read = float(text)
    assert read == float(value) or (isnan(read) and isnan(value))
    if not (isnan(read) or isinf(read)) and value == int(value) and abs(value) <= 2**53:
        assert text == str(int(value))


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_a_label_value(value: str) -> None:
    """Quotes, backslashes, line breaks, emoji: what the parser reads is what was there."""
    slices = (SliceReport("any", value, 5, 5, None, None, judged=False),)
    series = shown(replace(idle(), quality={"labelled": replace(holdout(), slices=slices)}))
    assert [labels for name, labels in series if name == "model_slice_examples"] == [("labelled", "any", value)]


def test_text_that_is_not_utf_8_makes_no_double_series() -> None:
    """A gateway refuses a body with two equal series; the first is kept."""
    slices = tuple(SliceReport("any", value, size, 0, None, None, judged=False) for value, size in (("\ud800", 9), ("?", 5)))
    body = render(replace(idle(), quality={"h": replace(holdout(), slices=slices)}), pushed_at=1.0)
    assert [line for line in body.splitlines() if line.startswith(b"model_slice_examples{")] == [
        b'model_slice_examples{holdout="h",dimension="any",value="?"} 9'
    ]


def test_added_labels_are_on_every_sample(tmp_path: Path) -> None:
    """A textfile has no grouping key, so the job and its labels go into the body."""
    text = render(full_state(tmp_path), pushed_at=1.0, labels={"job": 'a"b', "env": "prod"}).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert len(samples) > 100
    assert all(sample.labels.items() >= {("job", 'a"b'), ("env", "prod")} for sample in samples)


@pytest.mark.parametrize("label", ["le", "holdout", "percentile", "a-b", "__x", "1a", ""])
def test_a_label_that_would_overwrite_or_is_none_is_refused(label: str) -> None:
    """Every slice would become one series."""
    with pytest.raises(ValueError, match="label"):
        render(idle(), pushed_at=1.0, labels={label: "x"})


def test_families_come_in_the_tables_order(tmp_path: Path) -> None:
    """Each with its help and type, as the client's own parser reads them, without timestamps and without `_created`."""
    found = list(text_string_to_metric_families(render(full_state(tmp_path), pushed_at=1.0).decode()))
    assert [f"{one.name}_total" if one.type == "counter" else one.name for one in found] == [one.name for one in names.TABLE]
    assert [(one.type, one.documentation) for one in found] == [(one.kind, one.help) for one in names.TABLE]
    assert all(sample.timestamp is None and not sample.name.endswith("_created") for one in found for sample in one.samples)
