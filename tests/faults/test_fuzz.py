"""What strangers may send or write, made up by the thousand: nothing but a clear answer comes of it."""

from __future__ import annotations

import json
import os.path
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from jobs.retrain.alerts import MessageError, parse
from jobs.schedule import served
from jobs.scheduler.log import Log
from jobs.spec import load
from monitoring import servers
from monitoring.exposition import render
from monitoring.gateway import Gateway
from monitoring.state import JobState
from pipelines.errors import SpecError
from pipelines.report import ClassReport, ModelReport, SliceReport
from tests.faults.conftest import Tally
from tests.reports import full_state, holdout
from tests.scheduling import Scheduler
from tests.test_retrain_alerts import MESSAGE
from tests.tiny_job import SPEC, TinyJob

T = TypeVar("T")

TOKEN = "nobody guesses this token"  # noqa: S105  of this test
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def tried(tally: Tally, strategies: dict[str, Any], test: Callable[..., object], *, short: int, long: int) -> int:
    """Call the test with so many examples, from the table's seed on. Returns how many there were."""
    count = 0

    def counted(**example: Any) -> None:
        nonlocal count
        count += 1
        test(**example)

    # Nothing is shrunk in the long form's tens of thousands, and nothing is kept on disk: a seed repeats it.
    profile = settings(
        max_examples=long if tally.soak else short,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    seed(tally.seed)(profile(given(**strategies)(counted)))()
    return count


def asked(question: Callable[[], T], refusal: type[Exception]) -> tuple[T | None, str]:
    """The answer, or the words of a refusal. Any other error is a failure."""
    try:
        return question(), ""
    except refusal as error:
        return None, str(error)


# The job file.


@st.composite
def job_texts(draw: st.DrawFn) -> str:
    """A good job file with some of its text replaced, repeated or left out, by text that matters to it or by any."""
    text = SPEC
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 3, 10, 60])))
        telling = st.sampled_from(
            ["{", "}", "{date:", "..", "/", "~", "~nobody/", "[[", "]", "=", '"', "'''", "\n", "\\u0000", "1e999", "nan", "-0",
             "9" * 400, "true", "[job]\n", "{date:%Y/../%m}", "1979-05-27", "\ufeff", "0x_", "*" * 50, "**/", "[!", "\x7f"]
        )  # fmt: skip
        text = text[:start] + draw(telling | TEXT) + text[end:]
    return text


@st.composite
def job_values(draw: st.DrawFn) -> str:
    """A good job file with one value, anywhere, replaced by any other."""
    lines = SPEC.splitlines()
    settable = [number for number, line in enumerate(lines) if " = " in line]
    number = draw(st.sampled_from(settable))
    key = lines[number].split(" = ")[0]
    value = draw(TEXT | st.integers() | st.booleans() | st.lists(TEXT, max_size=3) | st.floats(allow_nan=False))
    lines[number] = f"{key} = {json.dumps(value)}"
    return "\n".join(lines)


def test_any_job_file_is_taken_or_refused_in_words(tmp_path: Path, tally: Tally) -> None:
    """Never a traceback; what is refused is named with its file, and what is taken can be put on any day."""
    job = TinyJob(tmp_path / "job")

    def check(text: str) -> None:
        job.spec.write_text(text, encoding="utf-8")
        spec, refusal = asked(lambda: load(job.spec), SpecError)
        if spec is None:
            assert str(job.spec) in refusal
            return
        for template in (spec.output.path, spec.input.path, *(judged.path for judged in spec.holdout)):
            folder = template.partition("{")[0].rpartition("/")[0] or "/"
            assert Path(os.path.normpath(template.format(date=date(2026, 11, 1)))).is_relative_to(folder)

    count = tried(tally, {"text": job_texts() | job_values()}, check, short=400, long=20_000)
    tally.add("fuzz: job files", tries=count, losses=0)


# The exposition.


def state_with(texts: list[str], folder: Path) -> JobState:
    """A job whose labels are these texts, wherever a label may be any text."""
    state = full_state(folder)
    first, second, *_ = [*texts, "a", "b"]
    slices = tuple(SliceReport(first, text, 5, 4, None, None, judged=True) for text in texts)
    classes = tuple(ClassReport(text, 9, 9, 8, 0.5, 0.25) for text in texts)
    assert state.latest is not None
    return replace(
        state,
        quality={second: replace(holdout(second), slices=slices, classes=classes)},
        model=ModelReport(first, second, first, "cpu", 1),
        latest=replace(state.latest, host=second, run_id=first),
    )


def test_any_text_in_any_label_is_taken_by_all_and_comes_back(
    tmp_path: Path, pushgateway: servers.Server, tally: Tally
) -> None:
    """promtool has no complaint, the Pushgateway takes it, and what it shows then is what was there, value by value."""
    promtool, folders, labels = servers.find("promtool"), iter(range(10**9)), 0
    there = Gateway(pushgateway.url, timeout_seconds=60.0)

    def check(texts: list[str], job: str) -> None:
        nonlocal labels
        folder = tmp_path / str(next(folders))
        state = state_with(texts, folder)
        body = render(state, pushed_at=1.0)
        done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")
        group = {"job": job, "env": texts[0]}
        there.put(group, body)
        shown = httpx.get(f"{pushgateway.url}/metrics", trust_env=False, timeout=60).text
        found: set[tuple[str, ...]] = {
            (
                sample.name,
                *(sample.labels[label] for label in ("holdout", "dimension", "value", "class") if label in sample.labels),
            )
            for family in text_string_to_metric_families(shown)
            for sample in family.samples
            if sample.labels.get("job") == job and sample.labels.get("env", "") == texts[0]
        }
        second = [*texts, "a", "b"][1]
        wanted: set[tuple[str, ...]] = {("model_slice_examples", second, texts[0], text) for text in texts}
        wanted |= {("model_class_recall", second, text) for text in texts}
        assert wanted <= found
        assert [one.sequence for one in there.groups() if one.labels == group] == [state.sequence]
        there.delete(group)
        labels += 2 * len(texts) + 6

    strategies = {"texts": st.lists(TEXT, min_size=1, max_size=60, unique=True), "job": TEXT.filter(bool)}
    tried(tally, strategies, check, short=15, long=400)
    tally.add("fuzz: label values", tries=labels, losses=0)


# Alertmanager's message.


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A good message with some of it replaced, whole or cut short; or anything."""
    message = json.loads(json.dumps(MESSAGE))
    alert = message["alerts"][0]
    for place in draw(st.lists(st.sampled_from([message, alert, alert["labels"]]), min_size=1, max_size=3)):
        place[draw(st.sampled_from(sorted(place)) | TEXT)] = draw(JSON)
    body = json.dumps(message).encode()
    whole = st.just(body)
    return draw(whole | whole | st.integers(0, len(body)).map(lambda end: body[:end]) | st.binary(max_size=200))


def test_any_message_is_understood_or_refused_in_one_line(tally: Tally) -> None:
    """Nothing but its own error, short, comes of it."""

    def check(body: bytes) -> None:
        message, refusal = asked(lambda: parse(body), MessageError)
        assert len(refusal) < 1_000
        assert refusal.isprintable()
        assert message is None or all(alert.id.fingerprint and alert.id.starts_at for alert in message.alerts)

    count = tried(tally, {"body": messages()}, check, short=500, long=50_000)
    tally.add("fuzz: Alertmanager's messages", tries=count, losses=0)


# All that the scheduler serves, by its own description.


@contextmanager
def scheduler_pages(folder: Path) -> Iterator[tuple[str, StringIO]]:
    """A real scheduler with two jobs, one of an odd name, behind its real server; and what it logs of defects."""
    scheduler = Scheduler(folder, alerts_token=TOKEN, listen="127.0.0.1:0")
    scheduler.known_since("churn", hours=3.5)
    scheduler.write("a/b ü %2F", file="odd")
    with scheduler:
        scheduler.until("ended")
        stream = StringIO()
        with served(scheduler.daemon, scheduler.ledger, scheduler.daemon._settings, Log(stream)) as url:
            assert url is not None
            yield url, stream


def either(operation: Any) -> st.SearchStrategy[Any]:
    """Requests as the description wants them, and such as it forbids."""
    made = [operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode]
    return st.one_of(made)


def test_every_endpoint_answers_as_it_is_described(tmp_path: Path, tally: Tally) -> None:
    """Whatever is asked, by the description or against it: an answer that the description has, and never a failure."""
    count = 0
    with scheduler_pages(tmp_path) as (url, log), httpx.Client(trust_env=False, timeout=60) as client:
        description = client.get(f"{url}/openapi.json").json()
        config = schemathesis.Config.from_dict({"base-url": url})
        schema = schemathesis.openapi.from_dict(description, config=config)
        operations: list[Any] = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
        assert len(operations) == len(description["paths"])
        for operation in operations:

            def check(case: Any) -> None:
                response = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
                case.validate_response(
                    response,
                    checks=[
                        not_a_server_error,
                        status_code_conformance,
                        content_type_conformance,
                        response_schema_conformance,
                    ],
                )

            count += tried(tally, {"case": either(operation)}, check, short=20, long=1_500)
        assert client.get(f"{url}/healthz").status_code == 200
        assert "unexpected error" not in log.getvalue()
    tally.add("fuzz: requests to the scheduler", tries=count, losses=0)
