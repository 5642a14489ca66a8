"""The metric table: the only place where a metric name is spelled.

Conventions follow https://prometheus.io/docs/practices/naming/: base units, `_total` for counters, ratios
from 0 to 1, timestamps rather than ages. A total and its parts never share a family.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

MAX_SERIES_PER_JOB = 10_000
"""One group over Prometheus's scrape limit takes every job's metrics down, so the limit is kept here."""

LATENCY_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.5, 2.5, 7.5, 30.5)
"""Upper bounds in seconds. None is whole: the gateway shows 1 as `1`, Prometheus 3 stores it as `1.0`."""

Kind = Literal["counter", "gauge", "histogram"]
Section = Literal["cumulative", "latest run", "schedule and state", "quality", "thresholds", "scheduler"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One family: its name as Prometheus stores it, type, labels, and what it means (the HELP text)."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    section: Section

    def __post_init__(self) -> None:
        if not METRIC_NAME.fullmatch(self.name):
            message = f"{self.name!r} is not a metric name"
            raise ValueError(message)
        for label in self.labels:
            if not LABEL_NAME.fullmatch(label):
                message = f"{self.name}: {label!r} is not a label name"
                raise ValueError(message)


TABLE: list[Metric] = []
"""Every family, in the order in which it is shown."""


def _metric(section: Section, kind: Kind, name: str, help_: str, *labels: str) -> Metric:
    metric = Metric(name, kind, labels, help_, section)
    TABLE.append(metric)
    return metric


# Cumulative over the job's life: from the ledger, never falling.
REQUESTS = _metric(
    "cumulative", "counter", "inference_requests_total", "Rows scored over the job's life: one request is one row."
)
BATCHES = _metric("cumulative", "counter", "inference_batches_total", "Batches inferred over the job's life.")
BATCHES_OUT_OF_MEMORY = _metric(
    "cumulative",
    "counter",
    "inference_batches_out_of_memory_total",
    "Batches that did not fit into memory over the job's life: their rows were inferred in smaller ones.",
)
ROWS_REJECTED = _metric(
    "cumulative", "counter", "inference_rows_rejected_total", "Rows not scored over the job's life, and why.", "reason"
)
BATCH_LATENCY = _metric(
    "cumulative",
    "histogram",
    "inference_batch_latency_seconds",
    "Time of one batch, tensors on the host to predictions on the host, device synchronised, warm-up excluded.",
)
STAGE_SECONDS = _metric(
    "cumulative", "counter", "inference_stage_seconds_total", "Seconds spent in each stage, summed over workers.", "stage"
)
RUNS = _metric("cumulative", "counter", "batch_runs_total", "Runs ended, by outcome.", "outcome")
EVALUATED_EXAMPLES = _metric(
    "cumulative", "counter", "model_evaluated_examples_total", "Labelled examples evaluated over the job's life.", "holdout"
)
CORRECT_EXAMPLES = _metric(
    "cumulative", "counter", "model_correct_examples_total", "Labelled examples predicted right over the job's life.", "holdout"
)
MODEL_RETRAINS = _metric(
    "cumulative",
    "counter",
    "model_retrains_total",
    "Retrainings ended, by outcome; absent for a job without [retrain].",
    "outcome",
)

# The latest run.
LATENCY = _metric(
    "latest run", "gauge", "inference_latency_seconds", "Mean processing time of one request: infer seconds / rows scored."
)
THROUGHPUT = _metric("latest run", "gauge", "inference_throughput_rows_per_second", "Rows scored / elapsed seconds of scoring.")
LATENCY_QUANTILE = _metric(
    "latest run",
    "gauge",
    "inference_batch_latency_quantile_seconds",
    "Batch latency that this percentage of the run's batches did not exceed, exact.",
    "percentile",  # `quantile` is for summaries: promtool would complain of a gauge that has it
)
BATCH_ROWS = _metric("latest run", "gauge", "inference_batch_rows", "Rows in a batch, as used.")
RUN_ROWS = _metric("latest run", "gauge", "batch_run_rows", "Rows of the run: read = scored + rejected.", "disposition")
RUN_PARTS = _metric(
    "latest run",
    "gauge",
    "batch_run_parts",
    "Parts of the latest finished run: done by it, or skipped because they were committed before.",
    "disposition",
)
RUN_STATE = _metric("latest run", "gauge", "batch_run_state", "State of the job's latest run: exactly one is 1.", "state")
RUN_STARTED = _metric("latest run", "gauge", "batch_run_started_timestamp_seconds", "When the latest run started.")
RUN_FINISHED = _metric("latest run", "gauge", "batch_run_finished_timestamp_seconds", "When the latest finished run ended.")
RUN_LAST_SUCCESS = _metric(
    "latest run", "gauge", "batch_run_last_success_timestamp_seconds", "When a run last ended with success."
)
RUN_DURATION = _metric("latest run", "gauge", "batch_run_duration_seconds", "How long the latest finished run took.")
RUN_INFO = _metric(
    "latest run",
    "gauge",
    "batch_run_info",
    "The latest run, as labels; always 1.",
    "run_id",
    "trigger",
    "model_version",
    "host",
)
RUN_CPU = _metric(
    "latest run", "gauge", "batch_run_cpu_usage_ratio", "CPU seconds of the run / (elapsed seconds x cores available)."
)
RUN_MEMORY = _metric("latest run", "gauge", "batch_run_max_resident_memory_bytes", "Peak resident memory of the run.")
RUN_ACCELERATOR_MEMORY = _metric(
    "latest run", "gauge", "batch_run_accelerator_memory_peak_bytes", "Peak memory the run allocated on the accelerator."
)

# Schedule and state.
NEXT_EXPECTED = _metric(
    "schedule and state",
    "gauge",
    "batch_run_next_expected_timestamp_seconds",
    "When the schedule expects the next run: missed when time() > this + grace.",
)
GRACE = _metric("schedule and state", "gauge", "batch_run_grace_seconds", "How late a run may be before it counts as missed.")
TIMEOUT = _metric(
    "schedule and state", "gauge", "batch_run_timeout_seconds", "How long a run may take (job.timeout); absent without a limit."
)
PUSH_INTERVAL = _metric(
    "schedule and state",
    "gauge",
    "batch_state_push_interval_seconds",
    "How often the state is pushed while a run is in progress.",
)
SEQUENCE = _metric("schedule and state", "gauge", "batch_state_sequence", "Revision of the ledger that is shown.")
PUSHED = _metric(
    "schedule and state", "gauge", "batch_state_pushed_timestamp_seconds", "When the state that is shown was sent."
)

# Quality, from the labelled holdouts. Absent, never 0, where there is nothing to divide by.
_BOUND = "95 % confidence bound (Wilson; macro recall: see the README)."
ACCURACY = _metric("quality", "gauge", "model_accuracy", "Share of labelled examples predicted right.", "holdout")
ACCURACY_LOWER = _metric("quality", "gauge", "model_accuracy_lower_bound", f"Accuracy, lower {_BOUND}", "holdout")
ACCURACY_UPPER = _metric("quality", "gauge", "model_accuracy_upper_bound", f"Accuracy, upper {_BOUND}", "holdout")
RECALL = _metric("quality", "gauge", "model_recall", "Recall: binary, of the positive class; multiclass, macro.", "holdout")
RECALL_LOWER = _metric("quality", "gauge", "model_recall_lower_bound", f"Recall, lower {_BOUND}", "holdout")
RECALL_UPPER = _metric("quality", "gauge", "model_recall_upper_bound", f"Recall, upper {_BOUND}", "holdout")
PRECISION = _metric(
    "quality", "gauge", "model_precision", "Precision: binary, of the positive class; multiclass, macro.", "holdout"
)
F1_SCORE = _metric("quality", "gauge", "model_f1_score", "F1: binary, of the positive class; multiclass, macro.", "holdout")
CLASS_RECALL = _metric("quality", "gauge", "model_class_recall", "Recall of one class.", "holdout", "class")
CLASS_PRECISION = _metric("quality", "gauge", "model_class_precision", "Precision of one class.", "holdout", "class")
_SLICE = ("holdout", "dimension", "value")
SLICE_ACCURACY = _metric("quality", "gauge", "model_slice_accuracy", "Accuracy on one slice.", *_SLICE)
SLICE_ACCURACY_LOWER = _metric(
    "quality", "gauge", "model_slice_accuracy_lower_bound", f"Slice accuracy, lower {_BOUND}", *_SLICE
)
SLICE_ACCURACY_UPPER = _metric(
    "quality", "gauge", "model_slice_accuracy_upper_bound", f"Slice accuracy, upper {_BOUND}", *_SLICE
)
SLICE_RECALL = _metric("quality", "gauge", "model_slice_recall", "Recall on one slice.", *_SLICE)
SLICE_RECALL_LOWER = _metric("quality", "gauge", "model_slice_recall_lower_bound", f"Slice recall, lower {_BOUND}", *_SLICE)
SLICE_RECALL_UPPER = _metric("quality", "gauge", "model_slice_recall_upper_bound", f"Slice recall, upper {_BOUND}", *_SLICE)
SLICE_EXAMPLES = _metric("quality", "gauge", "model_slice_examples", "Labelled examples in one slice.", *_SLICE)
SLICE_MIN_EXAMPLES = _metric(
    "quality", "gauge", "model_slice_min_examples", "A slice with fewer examples is too small to judge.", "holdout"
)
SLICES_DROPPED = _metric(
    "quality",
    "gauge",
    "model_slices_dropped",
    "Slices over the budget: summed under value=__other__, or cut at the series limit.",
    "holdout",
)
EVALUATED = _metric(
    "quality", "gauge", "model_evaluated_timestamp_seconds", "When the model was last judged on this holdout.", "holdout"
)
EVALUATION_FAILED = _metric(
    "quality",
    "gauge",
    "model_evaluation_failed",
    "1 if the latest finished run could not judge this holdout, 0 if it did; absent if it came to none.",
    "holdout",
)
MODEL_INFO = _metric(
    "quality",
    "gauge",
    "model_info",
    "The model that last ran, or was put in place since, as labels; always 1.",
    "version",
    "sha256",
    "format",
)

# Thresholds, from the job file, so that one set of alert rules serves every job.
LATENCY_THRESHOLD = _metric(
    "thresholds", "gauge", "inference_latency_threshold_seconds", "The job's limit for latency: alert above it."
)
ACCURACY_THRESHOLD = _metric("thresholds", "gauge", "model_accuracy_threshold", "The job's limit for accuracy: alert below it.")
RECALL_THRESHOLD = _metric("thresholds", "gauge", "model_recall_threshold", "The job's limit for recall: alert below it.")

SCHEDULER_TABLE: list[Metric] = []
"""The scheduler's own families: of the daemon, not of a job, so scraped from it and never pushed."""

LAG_BUCKETS = (0.05, 0.25, 0.5, 1.5, 2.5, 5.5, 15.5, 30.5, 60.5, 300.5, 900.5, 1800.5, 3600.5)
"""Upper bounds in seconds, fractional like `LATENCY_BUCKETS`."""


def _scheduler(kind: Kind, name: str, help_: str) -> Metric:
    metric = Metric(name, kind, (), help_, "scheduler")
    SCHEDULER_TABLE.append(metric)
    return metric


SCHEDULER_JOBS = _scheduler("gauge", "batch_scheduler_jobs", "Jobs that have a schedule.")
SCHEDULER_BROKEN = _scheduler(
    "gauge", "batch_scheduler_broken_files", "Job files that can't be used as they are; the last good definition runs on."
)
SCHEDULER_STARTED_RUNS = _scheduler(
    "counter", "batch_scheduler_runs_started_total", "Runs that the scheduler started since it began."
)
SCHEDULER_MISSED_RUNS = _scheduler(
    "counter", "batch_scheduler_runs_missed_total", "Scheduled times that it counted as missed since it began."
)
SCHEDULER_RUNNING = _scheduler("gauge", "batch_scheduler_runs_running", "Runs in progress.")
SCHEDULER_WAITING = _scheduler("gauge", "batch_scheduler_runs_waiting", "Runs that are due and wait for their turn.")
SCHEDULER_MAX_RUNNING = _scheduler("gauge", "batch_scheduler_max_running", "How many runs may be in progress at once.")
SCHEDULER_LAG = _scheduler(
    "histogram", "batch_scheduler_lag_seconds", "From when a run was due to when its process was started."
)
SCHEDULER_SYNC_FAILURES = _scheduler(
    "counter", "batch_scheduler_sync_failures_total", "Syncs since it began after which a push was still owed."
)
SCHEDULER_LAST_SYNC = _scheduler(
    "gauge", "batch_scheduler_last_sync_timestamp_seconds", "When the ledger and the gateways were last found, or made, alike."
)
SCHEDULER_TROUBLE = _scheduler("gauge", "batch_scheduler_ledger_trouble", "1 while the ledger can't be used, else 0.")
SCHEDULER_ALERTS = _scheduler(
    "counter", "batch_scheduler_alert_messages_total", "Messages of Alertmanager's that it took since it began."
)
SCHEDULER_STARTED_RETRAINS = _scheduler(
    "counter", "batch_scheduler_retrains_started_total", "Retrainings that it started for alerts since it began."
)
SCHEDULER_RETRAINING = _scheduler("gauge", "batch_scheduler_retrains_running", "Retrainings in progress.")
SCHEDULER_WAITING_RETRAINS = _scheduler(
    "gauge", "batch_scheduler_retrains_waiting", "Retrainings that an alert asked for and that wait for their turn."
)
SCHEDULER_BEGAN = _scheduler("gauge", "batch_scheduler_started_timestamp_seconds", "When the scheduler began.")

ALERT_LABELS = frozenset({"alertname", "severity", "depends_on", "retrain"})
"""Those that the alert rules set."""

RESERVED_LABELS = frozenset({"le", *ALERT_LABELS, *(label for metric in TABLE for label in metric.labels)})
"""The families' own labels, and the alerts': one added to a whole group must have another name, or it would overwrite them.

Two series that differ only in such a label give two alerts that don't differ, and Prometheus then drops the whole rule.
"""
