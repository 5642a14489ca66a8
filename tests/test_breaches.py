"""Which limits a run is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from jobs.breaches import breaches
from jobs.settings import ThresholdSettings
from pipelines.report import Estimate, HoldoutReport, Outcome, RunReport, Stage, Trigger

THRESHOLDS = ThresholdSettings(latency_seconds=0.5, accuracy=0.9, recall=0.85)
RUN = RunReport(
    run_id="r",
    job="j",
    trigger=Trigger.MANUAL,
    logical_date=date(2026, 1, 1),
    host="h",
    started_at=0.0,
    finished_at=1.0,
    elapsed_seconds=1.0,
    scoring_seconds=1.0,
    outcome=Outcome.SUCCESS,
)


def judged(accuracy: Estimate | None, recall: Estimate | None) -> RunReport:
    holdout = HoldoutReport("h", min_examples=30, evaluated_at=0.0, accuracy=accuracy, recall=recall)
    return replace(RUN, holdouts=(holdout,))


def test_nothing_measured_breaches_nothing() -> None:
    """A figure that is absent is not a bad figure."""
    assert breaches(RUN, THRESHOLDS) == ()
    assert breaches(judged(None, None), THRESHOLDS) == ()
    assert breaches(judged(Estimate(0.1, 0.0, 0.2), None), ThresholdSettings()) == ()


def test_a_figure_on_its_threshold_is_no_breach() -> None:
    """Below is below, above is above."""
    assert breaches(judged(Estimate(0.9, 0.8, 0.95), Estimate(0.85, 0.8, 0.9)), THRESHOLDS) == ()
    on_limit = replace(RUN, rows_scored=2, stage_seconds={Stage.INFER: 1.0})
    assert breaches(on_limit, THRESHOLDS) == ()


def test_a_breach_says_whether_it_is_certain() -> None:
    """Certain when even the upper bound is below the threshold."""
    found = breaches(judged(Estimate(0.89, 0.85, 0.93), Estimate(0.7, 0.6, 0.8)), THRESHOLDS)
    assert [(breach.figure, breach.certain) for breach in found] == [("accuracy", False), ("recall", True)]
    assert found[0].sentence() == "accuracy 0.89 is below the threshold of 0.9 on holdout h (not enough examples to be sure)"


def test_mean_latency_above_its_threshold_is_a_breach() -> None:
    """Infer seconds ÷ rows; a person reads it with its unit."""
    slow = replace(RUN, rows_scored=2, stage_seconds={Stage.INFER: 3.0})
    assert [breach.sentence() for breach in breaches(slow, THRESHOLDS)] == ["latency 1.5 s is above the threshold of 0.5 s"]
