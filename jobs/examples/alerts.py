"""What the demo sees of alerts: how one goes from pending to firing in Prometheus, arrives in Alertmanager, and resolves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from jobs.examples.waiting import until

_ANSWER_SECONDS = 30.0  # the demo's runs have the machine's cores

PENDING, FIRING, DELIVERED, RESOLVED, WITHDRAWN = "pending", "firing", "delivered", "resolved", "withdrawn"
"""The states of an alert, in their order: the first two and `resolved` in Prometheus, the others in Alertmanager."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as Prometheus has it: `state` is pending or firing."""

    name: str
    severity: str
    job: str
    state: str
    summary: str


def alerts(prometheus: str) -> list[Alert]:
    """The alerts that are pending or firing at the Prometheus at that URL, the gravest first."""
    found = [
        Alert(
            name=alert["labels"]["alertname"],
            severity=alert["labels"].get("severity", ""),
            job=alert["labels"].get("job", ""),
            state=alert["state"],
            summary=alert["annotations"].get("summary", ""),
        )
        for alert in _get(f"{prometheus}/api/v1/alerts")["data"]["alerts"]
    ]
    return sorted(found, key=lambda alert: (_GRAVEST_FIRST.get(alert.severity, 9), alert.name, alert.job))


_GRAVEST_FIRST = {"critical": 0, "warning": 1, "info": 2}


@dataclass
class Watch:
    """One alert of one job, followed by looking now and then. `seen` has the states it went through, and when."""

    prometheus: str
    alertmanager: str
    alert: str
    job: str
    seen: dict[str, datetime] = field(default_factory=dict)

    def look(self) -> list[str]:
        """The states that are new since the last look."""
        held = {alert.state for alert in alerts(self.prometheus) if (alert.name, alert.job) == (self.alert, self.job)}
        delivered = self._is_delivered() if FIRING in held | self.seen.keys() else False
        states = {
            PENDING: PENDING in held,
            FIRING: FIRING in held,
            DELIVERED: delivered,
            RESOLVED: FIRING in self.seen and FIRING not in held,
            WITHDRAWN: DELIVERED in self.seen and not delivered,
        }
        new = [state for state, reached in states.items() if reached and state not in self.seen]
        self.seen |= dict.fromkeys(new, datetime.now(UTC))
        return new

    def until(self, state: str, *, timeout_seconds: float) -> bool:
        """Look until it has come to this; False when it hasn't in time."""

        def has() -> bool:
            return state in self.seen or state in self.look()

        return until(has, timeout_seconds=timeout_seconds)

    def _is_delivered(self) -> bool:
        matchers = {"filter": [f'alertname="{self.alert}"', f'job="{self.job}"']}
        return bool(_get(f"{self.alertmanager}/api/v2/alerts", matchers))


def _get(url: str, parameters: dict[str, list[str]] | None = None) -> Any:
    answer = httpx.get(url, params=parameters, trust_env=False, timeout=_ANSWER_SECONDS)
    return answer.raise_for_status().json()
