"""What the demo sees of alerts: how one goes from pending to firing in Prometheus, and arrives in Alertmanager."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

_LOOK_SECONDS = 0.2
_ANSWER_SECONDS = 30.0  # the demo's runs have the machine's cores


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
        """The states that are new since the last look: pending, firing, delivered."""
        states = {alert.state for alert in alerts(self.prometheus) if (alert.name, alert.job) == (self.alert, self.job)}
        if "firing" in states and self._is_delivered():
            states.add("delivered")
        new: list[str] = [state for state in ("pending", "firing", "delivered") if state in states and state not in self.seen]
        self.seen |= dict.fromkeys(new, datetime.now(UTC))
        return new

    def until_delivered(self, *, timeout_seconds: float) -> bool:
        """Look until it is in Alertmanager; False when it is not in time."""
        deadline = time.monotonic() + timeout_seconds
        while "delivered" not in self.seen and time.monotonic() < deadline:
            self.look()
            time.sleep(_LOOK_SECONDS)
        return "delivered" in self.seen

    def _is_delivered(self) -> bool:
        matchers = {"filter": [f'alertname="{self.alert}"', f'job="{self.job}"']}
        return bool(_get(f"{self.alertmanager}/api/v2/alerts", matchers))


def _get(url: str, parameters: dict[str, list[str]] | None = None) -> Any:
    answer = httpx.get(url, params=parameters, trust_env=False, timeout=_ANSWER_SECONDS)
    return answer.raise_for_status().json()
