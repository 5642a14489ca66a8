"""The Alertmanager configuration, on a real Alertmanager: who is told of what, and what is muted by what."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from monitoring import servers
from monitoring.servers import Server
from tests.conftest import poll
from tests.webhooks import CHAT, CONFIGURATION, RETRAIN, TOKEN, Mailbox, Webhooks, as_read, configuration

RULES = CONFIGURATION.parent / "rules" / "alerts.yml"
GATEWAY_DOWN = "BatchGatewayDown"
MUTES = {
    "BatchRunFailed": {"ModelEvaluationStale"},
    "BatchRunMissed": {"ModelEvaluationStale"},
    "BatchRunStuck": {"BatchRunMissed", "ModelEvaluationStale"},
    "InferenceLatencyHigh": {"InferenceBatchLatencyHigh"},
    "ModelAccuracyLow": {"ModelAccuracyUnsure", "ModelRecallUnsure", "ModelSlicesUnsure"},
    "ModelRecallLow": {"ModelAccuracyUnsure", "ModelRecallUnsure", "ModelSlicesUnsure"},
}
GRAVITY = {"info": 0, "warning": 1, "critical": 2}
NASTY = 'nightly/fraud "ä" \\ {{ .Labels }} 🚀\n漢字 <b>&amp;'

Alert = dict[str, Any]


@pytest.fixture(scope="module")
def rules() -> dict[str, dict[str, str]]:
    """The labels that each alert rule sets, by the alert's name."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["labels"] for group in groups for rule in group["rules"] if "alert" in rule}


@pytest.fixture
def hooks() -> Iterator[Webhooks]:
    with Webhooks() as receiver:
        yield receiver


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as receiver:
        yield receiver


@pytest.fixture
def alertmanager(tmp_path: Path, hooks: Webhooks, mailbox: Mailbox) -> Iterator[Server]:
    """An Alertmanager with the project's configuration, but for addresses and for waiting a second, not minutes."""
    with servers.alertmanager(config=configuration(tmp_path, hooks=hooks, mailbox=mailbox)) as server:
        yield server


def alert(name: str, summary: str = "", description: str = "", **labels: str) -> Alert:
    """An alert as Prometheus sends it, with the annotations that every rule has."""
    annotations = {
        "summary": summary or f"{labels.get('job')}: {name}",
        "description": description or "Accuracy 0.78 (upper bound 0.81), threshold 0.9.",
        "dashboard_url": "http://127.0.0.1:3000/d/batchgauge-run?var-job=churn",
        "runbook_url": f"monitoring/RUNBOOK.md#{name.lower()}",
    }
    return {"labels": {"alertname": name, **labels}, "annotations": annotations}


def over(alert: Alert) -> Alert:
    """The same alert, resolved now."""
    return alert | {"endsAt": datetime.now(UTC).isoformat()}


def post(alertmanager: Server, alerts: Iterable[Alert]) -> None:
    """Send alerts as one Prometheus does, in one request."""
    answer = httpx.post(f"{alertmanager.url}/api/v2/alerts", json=list(alerts), trust_env=False)
    assert answer.status_code == httpx.codes.OK, answer.text


def shown(alertmanager: Server) -> list[Any]:
    """All alerts, as Alertmanager's page shows them."""
    answer = httpx.get(f"{alertmanager.url}/api/v2/alerts", trust_env=False, timeout=30)
    alerts: list[Any] = answer.raise_for_status().json()
    return alerts


def muted(alertmanager: Server) -> list[dict[str, str]]:
    """The labels of the alerts that another one mutes."""
    return [one["labels"] for one in shown(alertmanager) if one["status"]["inhibitedBy"]]


def attachments(hooks: Webhooks) -> list[Any]:
    """Chat messages so far: each is one attachment."""
    messages = hooks.posted(CHAT)
    assert all(len(message["attachments"]) == 1 for message in messages)
    return [message["attachments"][0] for message in messages]


def titles(hooks: Webhooks) -> set[str]:
    """What the chat messages are called."""
    return {one["title"] for one in attachments(hooks)}


def amtool(*arguments: str | Path) -> str:
    """What amtool says. It must say that all is well."""
    command = [str(servers.find("amtool")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_the_configuration_is_valid_as_it_stands() -> None:
    """amtool has nothing to say against it, and Alertmanager starts with it, though no secret is there yet."""
    assert "SUCCESS" in amtool("check-config", CONFIGURATION)
    with servers.alertmanager(config=CONFIGURATION) as server:
        assert "level=error" not in server.output.lower()


def test_no_secret_is_in_the_configuration() -> None:
    """Each is in a file of its own, and the paths are absolute: Alertmanager's folder may be anywhere."""

    def settings(node: Any) -> Iterator[tuple[str, Any]]:
        for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from settings(value)
        if isinstance(node, dict):
            yield from node.items()

    secrets = {
        name: value
        for name, value in settings(yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8")))
        if re.search("api_url|credentials|password|secret|token", name)
    }
    assert secrets == {
        "api_url_file": "/etc/alertmanager/secrets/chat_url",
        "credentials_file": "/etc/alertmanager/secrets/retrain_token",
    }


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (["severity=critical"], "oncall"),
        (["severity=critical", "retrain=candidate"], "retrain,oncall"),
        (["severity=warning"], "chat"),
        (["severity=warning", "retrain=candidate"], "retrain,chat"),
        (["severity=info"], "nobody"),
        (["team=another"], "chat"),
    ],
)
def test_routes(labels: list[str], receivers: str) -> None:
    """People by severity; the scheduler beside them for a candidate; what has no severity is not lost."""
    assert amtool("config", "routes", "test", f"--config.file={CONFIGURATION}", "job=churn", *labels) == receivers


def test_every_alert_of_the_rules_finds_its_receivers(alertmanager: Server, rules: dict[str, dict[str, str]]) -> None:
    """By the labels that the rule sets."""
    post(alertmanager, (alert(name, job=name, **labels) for name, labels in rules.items()))
    found = {one["labels"]["alertname"]: [receiver["name"] for receiver in one["receivers"]] for one in shown(alertmanager)}
    people = {"critical": ["oncall"], "warning": ["chat"], "info": ["nobody"]}
    candidates = {"ModelAccuracyLow", "ModelRecallLow"}
    assert found == {name: ["retrain"] * (name in candidates) + people[labels["severity"]] for name, labels in rules.items()}


CLOSE = {"in one environment": ({"env": "prod"}, {"env": "prod"}), "in none": ({}, {})}
APART = {
    "in two environments": ({"env": "prod"}, {"env": "staging"}),
    "one in none": ({"env": "prod"}, {}),
    "in two jobs": ({"job": "one"}, {"job": "other"}),
    "on two holdouts": ({"holdout": "one"}, {"holdout": "other"}),
}


def test_a_cause_mutes_its_symptoms_and_nothing_else(alertmanager: Server, rules: dict[str, dict[str, str]]) -> None:
    """Every alert beside every other: exactly the pairs in the table, and only within one job, environment and holdout.

    For jobs without an environment the same holds: a label that is absent on both sides counts as equal.
    """

    def one(name: str, beside: str, scene: str, **labels: str) -> Alert:
        here = labels | {"job": f"{scene}: {' and '.join(sorted((name, beside)))} {labels.get('job', '')}"}
        on = {"holdout": "labelled"} | here if name.startswith("Model") else here
        return alert(name, **rules[name], **on, beside=beside, scene=scene)

    def scenes() -> Iterator[Alert]:
        for first, second in combinations(sorted(rules.keys() - {GATEWAY_DOWN}), 2):
            for scene, (left, right) in (CLOSE | APART).items():
                if "holdout" not in left or (first.startswith("Model") and second.startswith("Model")):
                    yield one(first, second, scene, **left)
                    yield one(second, first, scene, **right)

    post(alertmanager, scenes())
    # Alertmanager takes note of alerts in their order: once these two are known for what they are, so are all before.
    post(alertmanager, [one("BatchRunStuck", "BatchRunMissed", "last"), one("BatchRunMissed", "BatchRunStuck", "last")])
    poll(lambda: any(labels["scene"] == "last" for labels in muted(alertmanager)))
    found = {(labels["scene"], labels["beside"], labels["alertname"]) for labels in muted(alertmanager)}
    expected = {(scene, source, target) for scene in CLOSE for source, targets in MUTES.items() for target in targets}
    assert found == expected | {("last", "BatchRunStuck", "BatchRunMissed")}


def test_the_lesser_never_mutes_the_graver(rules: dict[str, dict[str, str]]) -> None:
    """A page is not lost to a chat message."""
    for source, targets in MUTES.items():
        for target in targets:
            assert GRAVITY[rules[source]["severity"]] >= GRAVITY[rules[target]["severity"]], f"{source} mutes {target}"


def test_inhibitions_name_alerts_that_exist(rules: dict[str, dict[str, str]]) -> None:
    """A misspelt one would mute nothing."""
    named = re.findall(r'alertname=~?"([^"]+)"', CONFIGURATION.read_text(encoding="utf-8"))
    assert {name for names in named for name in names.split("|")} <= rules.keys()


def test_a_dead_gateway_mutes_all_that_depends_on_it(alertmanager: Server, rules: dict[str, dict[str, str]]) -> None:
    """One page, not one for each job; what has nothing to do with the gateway goes on."""
    disk = alert("DiskFull", severity="critical", instance="db")
    post(alertmanager, [disk, *(alert(name, job="churn", **labels) for name, labels in rules.items())])
    poll(lambda: {labels["alertname"] for labels in muted(alertmanager)} == rules.keys() - {GATEWAY_DOWN})


def test_forty_slices_are_one_message(alertmanager: Server, hooks: Webhooks) -> None:
    """One for a job in one environment: ten slices in full, links once, and how many there are."""
    slices = [f"< {number}" for number in range(40)]
    post(alertmanager, (slice_alert("prod", value) for value in slices))
    (message,) = poll(lambda: attachments(hooks))
    post(alertmanager, [slice_alert("staging", "< 1")])
    poll(lambda: "WARNING churn (staging): ModelSliceAccuracyLow" in titles(hooks))
    assert titles(hooks) - {"WARNING churn (staging): ModelSliceAccuracyLow"} == {message["title"]}
    assert len(attachments(hooks)) == 2
    assert message["title"] == message["fallback"] == "WARNING churn (prod): ModelSliceAccuracyLow (40 alerts)"
    assert message["color"] == "warning"
    lines = as_read(message["text"]).splitlines()
    assert [line for line in lines if line.startswith("ink =")] == [f"ink = {value}" for value in sorted(slices)[:10]]
    assert sum(line.startswith(("Dashboard:", "Runbook:", "Since")) for line in lines) == 3
    assert lines[-1] == "These are 10 of 40: the title leads to all of them."


def test_a_gateway_without_its_memory_is_one_message(alertmanager: Server, hooks: Webhooks) -> None:
    """However many jobs it forgot. A push that was refused is its own job's affair."""

    def owed(job: str, reason: str) -> Alert:
        return alert("BatchPushOwed", severity="warning", job=job, reason=reason)

    post(alertmanager, [*(owed(f"job {number}", "lost") for number in range(40)), owed("churn", "refused")])
    poll(lambda: len(attachments(hooks)) == 2)
    assert {" ".join(title.split()) for title in titles(hooks)} == {
        "WARNING (lost): BatchPushOwed (40 alerts)",
        "WARNING churn: BatchPushOwed",
    }


def slice_alert(env: str, value: str) -> Alert:
    return alert("ModelSliceAccuracyLow", severity="warning", job="churn", env=env, value=value, summary=f"ink = {value}")


def test_a_message_reads_well(alertmanager: Server, hooks: Webhooks, mailbox: Mailbox) -> None:
    """In the chat and in the mail: what, how bad, since when, where to look and what to do; then, that it is over."""
    failed = alert("BatchRunFailed", severity="critical", job="churn", summary="churn failed", description="At 02:17.")
    quality = alert("ModelAccuracyLow", severity="critical", job="churn", holdout="q3", summary="churn: accuracy < 0.9")
    post(alertmanager, [quality, failed])
    (since,) = {datetime.fromisoformat(one["startsAt"]).strftime("%Y-%m-%d %H:%M UTC") for one in shown(alertmanager)}
    title = "CRITICAL churn: BatchRunFailed, ModelAccuracyLow (2 alerts)"
    text = f"""churn failed
At 02:17.
Since {since}
Dashboard: http://127.0.0.1:3000/d/batchgauge-run?var-job=churn
Runbook: monitoring/RUNBOOK.md#batchrunfailed

churn: accuracy < 0.9
Accuracy 0.78 (upper bound 0.81), threshold 0.9.
Since {since}
Dashboard: http://127.0.0.1:3000/d/batchgauge-run?var-job=churn
Runbook: monitoring/RUNBOOK.md#modelaccuracylow
"""
    (message,) = poll(lambda: attachments(hooks))
    assert (message["title"], message["color"], as_read(message["text"]).strip()) == (title, "danger", text.strip())
    poll(lambda: mailbox.mails)
    assert (mailbox.mails[0]["Subject"], mailbox.mails[0]["To"]) == (title, "oncall@localhost")
    assert content(mailbox, 0).startswith(f"{text}\nAll alerts, and silences: http://")

    post(alertmanager, [over(failed)])
    poll(lambda: as_read(attachments(hooks)[-1]["text"]).endswith("No longer: churn failed\n"))
    assert "accuracy < 0.9" in as_read(attachments(hooks)[-1]["text"])
    post(alertmanager, [over(quality)])
    poll(lambda: "RESOLVED churn: ModelAccuracyLow" in titles(hooks))
    assert as_read(attachments(hooks)[-1]["text"]) == "No longer: churn: accuracy < 0.9\n"
    assert attachments(hooks)[-1]["color"] == "good"
    poll(lambda: mailbox.mails[-1]["Subject"] == "RESOLVED churn: ModelAccuracyLow")
    assert content(mailbox, -1).startswith("No longer: churn: accuracy < 0.9\nAll alerts")


def content(mailbox: Mailbox, index: int) -> str:
    """The text of a mail."""
    body = mailbox.mails[index].get_body()
    assert body is not None
    assert body.get_content_type() == "text/plain"
    text: str = body.get_content()
    return text.replace("\r\n", "\n")  # how lines end in mail


def test_an_alert_of_another_rule_set_is_readable(alertmanager: Server, hooks: Webhooks) -> None:
    """One without a job, a severity or annotations of ours: nothing is made up, and nothing is lost."""
    post(alertmanager, [{"labels": {"alertname": "DiskFull", "instance": "db"}}])
    (message,) = poll(lambda: attachments(hooks))
    assert message["title"].split() == ["ALERT", ":", "DiskFull"]
    assert message["text"].splitlines()[0] == "DiskFull"
    assert "no value" not in message["text"]


def test_the_scheduler_hears_of_candidates_only(alertmanager: Server, hooks: Webhooks) -> None:
    """Each by itself, with the token; when it is over, it hears so under the same fingerprint and start."""
    candidate = {"severity": "critical", "retrain": "candidate", "job": "churn"}
    accuracy = [alert("ModelAccuracyLow", **candidate, holdout=holdout) for holdout in ("a", "b")]
    others = [
        alert("BatchRunFailed", severity="critical", job="fraud"),
        alert("BatchRunPartial", severity="warning", job="sums"),
    ]
    post(alertmanager, [*others, *accuracy, alert("ModelRecallLow", **candidate, holdout="a")])
    known = {one["fingerprint"]: one for one in shown(alertmanager) if "retrain" in one["labels"]}
    poll(lambda: len(hooks.posted(RETRAIN)) == 3 and len(hooks.posted(CHAT)) == 3)  # people heard of all three jobs
    delivered = [document["alerts"] for document in hooks.posted(RETRAIN)]
    assert {one["fingerprint"]: (one["status"], one["labels"]) for (one,) in delivered} == {
        fingerprint: ("firing", one["labels"]) for fingerprint, one in known.items()
    }
    assert hooks.authorizations(RETRAIN) == {f"Bearer {TOKEN}"}
    assert hooks.authorizations(CHAT) == {None}

    post(alertmanager, [over(accuracy[1])])
    poll(lambda: len(hooks.posted(RETRAIN)) == 4)
    (last,) = hooks.posted(RETRAIN)[-1]["alerts"]
    (begun,) = (one for (one,) in delivered if one["labels"]["holdout"] == "b")
    assert (last["status"], last["fingerprint"], last["startsAt"]) == ("resolved", begun["fingerprint"], begun["startsAt"])


def test_a_scheduler_that_is_busy_hears_again(tmp_path: Path, mailbox: Mailbox) -> None:
    """Refused with 503, an alert is delivered again, the same."""
    with (
        Webhooks(refusals=2) as hooks,
        servers.alertmanager(config=configuration(tmp_path, hooks=hooks, mailbox=mailbox)) as server,
    ):
        post(server, [alert("ModelAccuracyLow", severity="info", retrain="candidate", job="churn")])
        poll(lambda: hooks.posted(RETRAIN))
        assert [request.document["alerts"] for request in hooks.refused] == [hooks.posted(RETRAIN)[0]["alerts"]] * 2


def test_names_of_any_characters_arrive_unharmed(alertmanager: Server, hooks: Webhooks, mailbox: Mailbox) -> None:
    """Quotes, braces, a backslash, a newline, a slash, markup, emoji, Chinese: in JSON, in the chat and in the mail."""
    labels = {"job": NASTY, "env": NASTY, "holdout": NASTY, "severity": "critical", "retrain": "candidate"}
    post(alertmanager, [alert("ModelAccuracyLow", summary=f"{NASTY}: low", description=NASTY, **labels)])
    poll(lambda: hooks.posted(RETRAIN) and hooks.posted(CHAT) and mailbox.mails)
    ((webhook,),) = (document["alerts"] for document in hooks.posted(RETRAIN))
    assert webhook["labels"] == {"alertname": "ModelAccuracyLow"} | labels
    (message,) = attachments(hooks)
    title = f"CRITICAL {NASTY} ({NASTY}): ModelAccuracyLow"
    assert as_read(message["title"]) == title
    assert not {"<", ">"} & set(message["title"] + message["text"] + message["fallback"])
    assert as_read(message["text"]).startswith(f"{NASTY}: low\n{NASTY}\n")
    assert mailbox.mails[0]["Subject"] == title
    assert content(mailbox, 0).startswith(f"{NASTY}: low\n{NASTY}\n")
