"""Whether alerts start a retraining: decided from what the ledger knows, not from how often an alert is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.retrain.alerts import Message, parse
from jobs.retrain.policy import Decision, Evaluation, JobFacts, decide
from jobs.settings import RetrainSettings
from monitoring.ledger import AlertId, Cause, RetrainOutcome, RetrainRecord
from monitoring.state import Thresholds
from pipelines.report import Estimate, HoldoutReport
from tests.test_retrain_alerts import FIRING, MESSAGE

HOUR, DAY_SECONDS = 3_600.0, 86_400.0
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC).timestamp()
TODAY = date(2026, 11, 22)
LOW, SURE, UNSURE, GOOD = (0.7, 0.66, 0.74), (0.8, 0.76, 0.84), (0.88, 0.85, 0.91), (0.95, 0.93, 0.97)


def settings(**changes: object) -> RetrainSettings:
    return RetrainSettings.model_validate({"entrypoint": "a.py:b", **changes})


def evaluation(
    age: int, accuracy: tuple[float, float, float] | None = LOW, *, model: str = "a", holdout: str = "labelled"
) -> Evaluation:
    """How the run of the night `age` days ago judged: it ended ten minutes before that day's NOW."""
    found = None if accuracy is None else Estimate(*accuracy)
    report = HoldoutReport(holdout, 30, 0.0, accuracy=found, recall=Estimate(*GOOD))
    ended = NOW - age * DAY_SECONDS - 600
    return Evaluation(TODAY - timedelta(days=age), ended - 60, ended, model, {holdout: report})


def record(
    hours_ago: float,
    outcome: RetrainOutcome | None = RetrainOutcome.REFUSED,
    *,
    alerts: Sequence[AlertId] = (),
    cause: Cause = Cause.ALERT,
) -> RetrainRecord:
    started = NOW - hours_ago * HOUR
    finished = None if outcome is None else started + 60
    return RetrainRecord("id", "tiny", cause, TODAY, "/m", started, tuple(alerts), finished, outcome)


def facts(*evaluations: Evaluation, retrains: Sequence[RetrainRecord] = (), **changes: Any) -> JobFacts:
    found = JobFacts("tiny", settings(), Thresholds(accuracy=0.9, recall=0.9), {}, evaluations or (evaluation(0),), retrains)
    return replace(found, **changes)


def message(*alerts: Mapping[str, Any]) -> Message:
    listed = [{**FIRING, **alert, "labels": {**FIRING["labels"], **alert.get("labels", {})}} for alert in alerts or ({},)]
    return parse(json.dumps({**MESSAGE, "alerts": listed}).encode())


def asked(found: JobFacts | None, said: Message | None = None, *, now: float = NOW) -> Decision:
    (decision,) = decide(said or message(), lambda _: found, now=now)
    return decision


ALERT = message().alerts[0].id


def test_a_sure_breach_starts_a_retraining() -> None:
    """Of the alerts that asked for it, by their identity, for a reason that names them."""
    decision = asked(facts())
    assert decision == Decision(
        "tiny",
        retrain=True,
        reason="ModelAccuracyLow on labelled: surely below its threshold on 1 day in a row",
        alerts=(ALERT,),
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"status": "resolved"}, "no alert is firing"),
        ({"labels": {"retrain": "no"}}, 'no alert is firing that has the label retrain="candidate"'),
        ({"labels": {"job": ""}}, "without a job label"),
        ({"labels": {"holdout": "other"}}, "on 0 days in a row"),
        ({"labels": {"alertname": "ModelRecallLow"}}, "on 0 days in a row"),
    ],
)
def test_what_is_no_reason_to_retrain(said: dict[str, Any], words: str) -> None:
    """And why not."""
    decision = asked(facts(), message(said))
    assert not decision.retrain
    assert words in decision.reason


def test_jobs_that_cannot_be_retrained() -> None:
    """Unknown, or without the section."""
    assert "no job file here is of a job 'tiny'" in asked(None).reason
    assert "no [retrain] section" in asked(facts(settings=None)).reason


def test_another_alert_with_the_label_is_about_either_figure() -> None:
    """A rule of the user's own."""
    assert asked(facts(), message({"labels": {"alertname": "Mine"}})).retrain


def test_a_job_with_labels_of_its_own_is_not_its_namesake() -> None:
    """Two environments may have a job of the same name on one Prometheus."""
    ours = facts(labels={"env": "prod"})
    assert asked(ours, message({"labels": {"env": "prod"}})).retrain
    for labels in ({"env": "test"}, {}):
        assert "another job of that name: this one has the labels env=prod" in asked(ours, message({"labels": labels})).reason


def test_days_in_a_row_are_counted_from_the_ledger() -> None:
    """Surely low each; a good day, an unsure one, or one without a figure ends the row."""
    patient = settings(after=3)

    def days(*accuracies: tuple[float, float, float] | None) -> Decision:
        found = [evaluation(age, accuracy) for age, accuracy in enumerate(accuracies)]
        return asked(facts(*found, settings=patient))

    assert days(LOW, SURE, LOW, GOOD).retrain
    for broken in ((LOW, GOOD, LOW, LOW), (LOW, UNSURE, LOW, LOW), (LOW, None, LOW, LOW), (LOW, LOW)):
        decision = days(*broken)
        assert not decision.retrain
        assert "and retrain.after asks for 3" in decision.reason


def test_days_of_another_model_do_not_count() -> None:
    """What the model in use now has not done is not its fault: replaced by hand, promoted, or rolled back."""
    patient = settings(after=2)
    assert "on 1 day in a row" in asked(facts(evaluation(0), evaluation(1, model="b"), settings=patient)).reason
    for outcome in (RetrainOutcome.PROMOTED, RetrainOutcome.ROLLED_BACK):
        switched = [record(20.0, outcome)]
        assert "on 1 day in a row" in asked(facts(evaluation(0), evaluation(1), settings=patient, retrains=switched)).reason
    refused = [record(20.0)]
    assert asked(facts(evaluation(0), evaluation(1), settings=patient, retrains=refused)).retrain


def test_a_days_old_judgement_does_not_outlive_a_promotion() -> None:
    """The alert goes on firing until the next run; that says nothing of the new model."""
    promoted = [record(0.1, RetrainOutcome.PROMOTED, alerts=[AlertId("other", "x")])]
    assert "on 0 days in a row since the model was put there" in asked(facts(retrains=promoted), now=NOW + DAY_SECONDS).reason


def test_the_same_firing_is_answered_once_for_each_judgement() -> None:
    """A replay changes nothing, however late; a new night that is as bad is new evidence."""
    answered = [record(0.1, alerts=[ALERT])]
    late = NOW + 30 * DAY_SECONDS
    assert "answered already" in asked(facts(retrains=answered), now=late).reason
    assert asked(facts(retrains=[record(0.1)]), now=late).retrain
    worse = facts(evaluation(-1), evaluation(0), retrains=answered)
    assert asked(worse, now=NOW + DAY_SECONDS).retrain
    again = message({"startsAt": "2026-11-22T09:00:00Z"})
    assert asked(facts(retrains=answered), again, now=late).retrain, "it resolved, and fired anew"


def test_one_that_was_stopped_has_answered_nothing() -> None:
    """By an upgrade, say, or the kernel for want of memory: the next repeat starts it again, as often as a day allows."""
    stopped = record(0.1, RetrainOutcome.STOPPED, alerts=[ALERT])
    assert asked(facts(retrains=[stopped])).retrain
    failed = record(0.1, RetrainOutcome.FAILED, alerts=[ALERT])
    assert "answered already" in asked(facts(retrains=[stopped, failed])).reason
    assert "retrained 2 times within 24 hours" in asked(facts(retrains=[stopped, stopped])).reason


def test_of_several_alerts_only_those_that_ask_anew_are_answered() -> None:
    """The others are in the ledger with the retraining that they led to."""
    other = {"fingerprint": "ab", "labels": {"alertname": "Mine"}}
    decision = asked(facts(retrains=[record(7.0, alerts=[ALERT])], evaluations=(evaluation(1),)), message({}, other))
    assert [alert.fingerprint for alert in decision.alerts] == ["ab"]


def test_cooldown_budget_and_one_at_a_time() -> None:
    """Counted over whatever was trained, by hand too; a rollback cools down, but spends nothing."""
    for cause in Cause:
        cooling = asked(facts(retrains=[record(5.0, cause=cause)]))
        assert cooling.reason.startswith("cooling down until 2026-11-22 04:01 UTC")
    assert asked(facts(retrains=[record(6.1)])).retrain
    assert asked(facts(retrains=[record(5.0)], settings=settings(cooldown="0s"))).retrain
    spent = [record(hours) for hours in (8.0, 16.0)]
    assert "retrained 2 times within 24 hours, and retrain.per_day allows 2" in asked(facts(retrains=spent)).reason
    assert asked(facts(retrains=[record(8.0), record(25.0)])).retrain
    rolled_back = [record(8.0, RetrainOutcome.ROLLED_BACK, cause=Cause.ROLLBACK), record(16.0)]
    assert "on 0 days" not in asked(facts(retrains=rolled_back)).reason
    assert asked(facts(retrains=rolled_back)).retrain
    assert "in progress" in asked(facts(retrains=[record(0.1, None)])).reason


def test_one_message_may_be_about_several_jobs() -> None:
    """A decision for each, in its order."""
    said = message({"labels": {"job": "b"}}, {"labels": {"job": "a"}}, {"labels": {"job": "b"}, "fingerprint": "ff"})
    found = decide(said, lambda name: replace(facts(), job=name) if name == "b" else None, now=NOW)
    assert [(decision.job, decision.retrain, len(decision.alerts)) for decision in found] == [("b", True, 2), ("a", False, 0)]


@given(
    times=st.integers(1, 5),
    outcomes=st.lists(st.sampled_from([RetrainOutcome.REFUSED, RetrainOutcome.FAILED, RetrainOutcome.DRY_RUN]), max_size=3),
)
def test_replays_at_any_time_never_retrain_twice(times: int, outcomes: list[RetrainOutcome]) -> None:
    """Whatever came of the first: the same message about the same judgement starts at most one."""
    found, started = facts(), 0
    for number in range(times):
        now = NOW + number * 7 * HOUR
        decision = asked(found, now=now)
        started += decision.retrain
        if decision.retrain:
            outcome = outcomes[0] if outcomes else RetrainOutcome.FAILED
            done = replace(record(0.0, outcome, alerts=decision.alerts), started_at=now, finished_at=now + 60)
            found = replace(found, retrains=(done, *found.retrains))
    assert started == 1
