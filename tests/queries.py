"""Asking a real Prometheus."""

from __future__ import annotations

from typing import Any

import httpx

from monitoring.servers import Server


def vector(prometheus: Server, expression: str) -> list[dict[str, Any]]:
    """The instant vector that the expression gives now."""
    answer = httpx.get(f"{prometheus.url}/api/v1/query", params={"query": expression}, trust_env=False)
    assert answer.status_code == httpx.codes.OK, answer.text
    result: list[dict[str, Any]] = answer.json()["data"]["result"]
    return result


def scraped(prometheus: Server, expression: str, *labels: str) -> dict[tuple[str, ...], str]:
    """Values by the labels named."""
    found = vector(prometheus, expression)
    return {tuple(one["metric"].get(label, "") for label in labels): one["value"][1] for one in found}
