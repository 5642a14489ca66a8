"""`/openapi.json`: the API, described by the models that its answers are made from, so that the two can't drift apart.

OpenAPI 3.1, https://spec.openapis.org/oas/v3.1.1.html, whose schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from jobs.retrain.alerts import Message
from jobs.web.documents import (
    DecisionsDocument,
    ErrorDocument,
    HealthDocument,
    JobsDocument,
    OneJobDocument,
    RunsDocument,
    SchedulerDocument,
)
from jobs.web.queries import RunsQuery

_REFERENCE = "#/components/schemas/{model}"
_JSON, _TEXT = "application/json", "text/plain"
_EXAMPLE_MESSAGE = {
    "version": "4",
    "groupKey": '{}:{alertname="ModelAccuracyLow"}',
    "status": "firing",
    "receiver": "retrain",
    "externalURL": "http://127.0.0.1:9093",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "ModelAccuracyLow", "job": "digits", "holdout": "labelled", "retrain": "candidate"},
            "annotations": {"summary": "digits: accuracy is surely below its threshold"},
            "startsAt": "2026-11-22T02:30:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://127.0.0.1:9090/graph",
            "fingerprint": "a1b2c3d4e5f60718",
        }
    ],
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: when it is given, and the document (None: text)."""

    when: str
    document: type[BaseModel] | None = ErrorDocument


def description() -> dict[str, Any]:
    """The whole of it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "batchgauge scheduler",
            "version": version("batchgauge"),
            "description": "What the scheduler and its jobs are at. Timestamps are Unix seconds, durations seconds, ratios "
            "from 0 to 1; null is not known, or none. Everything but `/alerts` only looks.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {path: {method: operation} for path, method, operation in _operations()},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "alerts": {"type": "http", "scheme": "bearer", "description": "The token that the scheduler was given."}
            },
        },
    }


def _operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    unreadable = Answer("The ledger can't be read")
    misunderstood = Answer("A parameter that is unknown, or has no allowed value")
    yield _looking(
        "/api/jobs",
        "jobs",
        "All jobs as they are now, by name",
        {200: Answer("All jobs", JobsDocument), 400: misunderstood, 503: unreadable},
    )
    yield _looking(
        "/api/jobs/{job}",
        "job",
        "One job as it is now",
        {200: Answer("The job", OneJobDocument), 400: misunderstood, 404: Answer("No job of that name"), 503: unreadable},
        parameters=[_job_parameter()],
    )
    yield _looking(
        "/api/runs",
        "runs",
        "Runs of all jobs or of one, newest first",
        {200: Answer("The runs", RunsDocument), 400: misunderstood, 404: Answer("No job of that name"), 503: unreadable},
        parameters=list(_query_parameters(RunsQuery)),
    )
    yield _looking(
        "/api/scheduler",
        "scheduler",
        "What the scheduler is at",
        {200: Answer("Its state", SchedulerDocument), 400: misunderstood},
    )
    yield _looking(
        "/healthz",
        "healthz",
        "Whether the scheduler's loop comes round",
        {200: Answer("It does", HealthDocument), 503: Answer("It hangs", HealthDocument)},
    )
    yield _looking(
        "/readyz",
        "readyz",
        "Whether the scheduler can do its work",
        {200: Answer("It can", HealthDocument), 503: Answer("It can't, and why", HealthDocument)},
    )
    yield _looking("/metrics", "metrics", "The scheduler's own metrics", {200: Answer("Prometheus' text format", None)})
    yield "/alerts", "post", _alerts()


def _looking(
    path: str, name: str, summary: str, answers: dict[int, Answer], *, parameters: list[dict[str, Any]] | None = None
) -> tuple[str, str, dict[str, Any]]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": _responses(answers)}
    if parameters:
        operation["parameters"] = parameters
    return path, "get", operation


def _alerts() -> dict[str, Any]:
    answers = {
        200: Answer("What was decided, for each job of the message", DecisionsDocument),
        400: Answer("No message of Alertmanager's, or one that is too large in itself"),
        401: Answer("The token is missing or wrong"),
        403: Answer("The scheduler was given no token, so it takes nobody's alerts"),
        408: Answer("The message did not arrive in time"),
        413: Answer("The message has too many bytes"),
        503: Answer("The ledger can't be read; send it again"),
    }
    return {
        "operationId": "alerts",
        "summary": "Tell the scheduler of alerts; those about a model may start a retraining",
        "description": 'Takes the webhook message of Alertmanager, version "4": '
        "https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. A message that is repeated changes nothing.",
        "security": [{"alerts": []}],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": _reference(Message), "example": _EXAMPLE_MESSAGE}},
        },
        "responses": _responses(answers),
    }


def _responses(answers: dict[int, Answer]) -> dict[str, Any]:
    return {str(status): {"description": one.when, "content": _content(one)} for status, one in answers.items()}


def _content(answer: Answer) -> dict[str, Any]:
    if answer.document is None:
        return {_TEXT: {"schema": {"type": "string"}}}
    return {_JSON: {"schema": _reference(answer.document)}}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _schemas() -> dict[str, Any]:
    answers = (
        DecisionsDocument, ErrorDocument, HealthDocument, JobsDocument, OneJobDocument, RunsDocument, SchedulerDocument
    )  # fmt: skip
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "serialization") for model in answers]
    _, found = models_json_schema([*models, (Message, "validation")], ref_template=_REFERENCE)
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _job_parameter() -> dict[str, Any]:
    told = "The job's name, percent-encoded: a slash in it is %2F."
    return {"name": "job", "in": "path", "required": True, "description": told, "schema": {"type": "string"}}


def _query_parameters(model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    for name, schema in model.model_json_schema()["properties"].items():
        told = schema.pop("description")
        yield {"name": name, "in": "query", "required": False, "description": told, "schema": _without_null(schema)}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is left out is no null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    return kinds[0] if kinds else {key: value for key, value in schema.items() if key != "title"}
