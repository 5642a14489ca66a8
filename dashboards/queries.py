"""The questions people ask of a job, in PromQL. Every metric name comes from the metric table."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring import names


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and the expression that answers it for every job at once."""

    question: str
    expression: str


QUERIES = (
    Query("How fast are rows scored?", f"rate({names.REQUESTS.name}[5m])"),
    Query("How many rows were scored in the last day?", f"increase({names.REQUESTS.name}[1d])"),
    Query("How long does one request take, over all jobs?", f"avg({names.LATENCY.name})"),
    Query(
        "How long do 95 % of the batches take, over the last day?",
        f"histogram_quantile(0.95, sum by (job, le) (rate({names.BATCH_LATENCY.name}_bucket[1d])))",
    ),
    Query(
        "Where does the time go?",
        f"sum by (job, stage) (increase({names.STAGE_SECONDS.name}[1d]))"
        f" / on (job) group_left sum by (job) (increase({names.STAGE_SECONDS.name}[1d]))",
    ),
    Query("How good is the model?", names.ACCURACY.name),
    Query("How much of what matters does it find?", names.RECALL.name),
    Query(
        "How good was it over a week of evaluations?",
        f"sum by (job, holdout) (increase({names.CORRECT_EXAMPLES.name}[7d]))"
        f" / sum by (job, holdout) (increase({names.EVALUATED_EXAMPLES.name}[7d]))",
    ),
    Query("Which slices are worst?", f"bottomk(5, {names.SLICE_ACCURACY.name})"),
    Query(
        "Which models are surely below their threshold?",
        f"{names.ACCURACY_UPPER.name} < on (job) group_left {names.ACCURACY_THRESHOLD.name}",
    ),
    Query("Which runs are missing?", f"time() > {names.NEXT_EXPECTED.name} + {names.GRACE.name}"),
    Query("How old is the last success, in hours?", f"(time() - {names.RUN_LAST_SUCCESS.name}) / 3600"),
)
