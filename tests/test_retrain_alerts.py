"""Alertmanager's webhook message: what is read of it, and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.retrain.alerts import MAX_BYTES, MessageError, parse
from monitoring import servers
from tests.conftest import poll

FIRING: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "ModelAccuracyLow", "job": "tiny", "holdout": "labelled", "retrain": "candidate"},
    "annotations": {"summary": "tiny: accuracy on labelled is below its threshold"},
    "startsAt": "2026-11-22T03:15:45.828123456+01:00",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://127.0.0.1:9090/graph",
    "fingerprint": "1a30ba71cca2921f",
}
MESSAGE: dict[str, Any] = {
    "receiver": "retrain",
    "status": "firing",
    "alerts": [FIRING],
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://127.0.0.1:9093",
    "version": "4",
    "groupKey": "{}:{}",
    "truncatedAlerts": 0,
}


def changed(**changes: object) -> bytes:
    """A message whose one alert has other values."""
    return json.dumps({**MESSAGE, "alerts": [{**FIRING, **changes}]}).encode()


def test_a_message_is_read() -> None:
    """The identity of a firing is its fingerprint and start, in one spelling; fields that are not read may be anything."""
    (alert,) = parse(json.dumps(MESSAGE).encode()).alerts
    assert alert.id == ("1a30ba71cca2921f", "2026-11-22T02:15:45.828123+00:00")
    (other,) = parse(changed(startsAt="2026-11-22T02:15:45.828123Z", annotations=7, endsAt=None, novelty=[{}])).alerts
    assert other.id == alert.id
    assert alert.labels["job"] == "tiny"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "it: Invalid JSON"),
        (b"[]", "it: Input should be an object"),
        (b"\xff", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (json.dumps({**MESSAGE, "version": "5"}).encode(), "version: Input should be '4'"),
        (json.dumps({**MESSAGE, "alerts": [FIRING] * 1_001}).encode(), "alerts: Tuple should have at most 1000 items"),
        (changed(status="pending"), r"alerts\.0\.status"),
        (changed(fingerprint="../../etc"), r"alerts\.0\.fingerprint"),
        (changed(fingerprint=None), r"alerts\.0\.fingerprint"),
        (changed(startsAt="yesterday"), r"alerts\.0\.startsAt"),
        (changed(startsAt="0001-01-01T00:00:00+14:00"), r"alerts\.0\.startsAt: .*outside of the calendar"),
        (changed(startsAt="9999-12-31T23:59:59-14:00"), r"alerts\.0\.startsAt: .*outside of the calendar"),
        (changed(startsAt=0), r"alerts\.0\.startsAt"),
        (changed(startsAt="2026-11-22T02:15:45"), r"alerts\.0\.startsAt"),
        (changed(labels={"job": 7}), r"alerts\.0\.labels\.job"),
        (changed(labels={str(number): "" for number in range(65)}), r"alerts\.0\.labels"),
        (changed(labels={"job": "x" * 5_000}), r"alerts\.0\.labels\.job"),
        (b" " * (MAX_BYTES + 1), "let fewer alerts into a group"),
    ],
)
def test_what_is_no_message_is_refused_in_one_line(body: bytes, words: str) -> None:
    """It comes from the network, so nothing of its size or shape is taken for granted."""
    with pytest.raises(MessageError, match=words) as caught:
        parse(body)
    assert len(str(caught.value)) < 1_000


@contextmanager
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a web server, and the bodies that were posted to it."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", bodies
        finally:
            server.shutdown()
            thread.join()


def told(bodies: list[bytes]) -> str | None:
    """What the latest message says."""
    return parse(bodies[-1]).alerts[0].status if bodies else None


def test_what_a_real_alertmanager_sends_is_understood(tmp_path: Path) -> None:
    """Firing, with odd names unharmed, and later resolved, as the same firing."""
    name = 'nightly/fraud "ä" \\ 🚀\n漢字 {{'
    labels = {**FIRING["labels"], "job": name}
    with receiver() as (url, bodies):
        config = tmp_path / "alertmanager.yml"
        hook = {"name": "hook", "webhook_configs": [{"url": url, "send_resolved": True}]}
        route = {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
        config.write_text(json.dumps({"route": route, "receivers": [hook]}))
        with servers.alertmanager(config=config) as alertmanager:
            for status, times in (("firing", {}), ("resolved", {"endsAt": "2026-01-01T00:00:00Z"})):
                alert = {"labels": labels, "startsAt": "2025-12-31T00:00:00Z", **times}
                httpx.post(f"{alertmanager.url}/api/v2/alerts", json=[alert], trust_env=False).raise_for_status()
                poll(lambda: told(bodies) == status)  # noqa: B023  it is asked within this round
    (firing,), (resolved,) = (parse(body).alerts for body in (bodies[0], bodies[-1]))
    assert firing.labels == labels
    assert firing.id == resolved.id
