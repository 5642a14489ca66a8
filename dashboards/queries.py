"""PromQL for people: the questions of the README, and what the dashboards' panels ask.

Every metric name comes from the metric table. A job's grouping key may hold more labels than `job` (such as `env`),
so nothing here groups by `job` or matches on it: aggregations say which labels go (`without`), matches which don't
count (`ignoring`). Two environments of a job on one Prometheus therefore stay two.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitoring import names
from monitoring.names import Metric


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
        f"histogram_quantile(0.95, rate({names.BATCH_LATENCY.name}_bucket[1d]))",
    ),
    Query(
        "Where does the time go?",
        f"increase({names.STAGE_SECONDS.name}[1d])"
        f" / ignoring (stage) group_left sum without (stage) (increase({names.STAGE_SECONDS.name}[1d]))",
    ),
    Query("How good is the model?", names.ACCURACY.name),
    Query("How much of what matters does it find?", names.RECALL.name),
    Query(
        "How good was it over a week of evaluations?",
        f"increase({names.CORRECT_EXAMPLES.name}[7d]) / increase({names.EVALUATED_EXAMPLES.name}[7d])",
    ),
    Query(
        "Which slices are worst, of those with enough examples to judge?",
        f"bottomk(5, {names.SLICE_ACCURACY.name} and"
        f" ({names.SLICE_EXAMPLES.name} >= ignoring (dimension, value) group_left {names.SLICE_MIN_EXAMPLES.name}))",
    ),
    Query(
        "Which models are surely below their threshold?",
        f"{names.ACCURACY_UPPER.name} < ignoring (holdout) group_left {names.ACCURACY_THRESHOLD.name}",
    ),
    Query("Which runs are missing?", f"time() > {names.NEXT_EXPECTED.name} + {names.GRACE.name}"),
    Query("How old is the last success, in hours?", f"(time() - {names.RUN_LAST_SUCCESS.name}) / 3600"),
)

# In the dashboards. A variable's value is escaped as a regular expression and set between backticks, where PromQL takes
# a backslash as it is: so a name with quotes, braces or backslashes survives. (Grafana's own escaping, inside double
# quotes, loses double quotes.)
JOB = "job=~`${job:regex}`"
HOLDOUT = "holdout=~`${holdout:regex}`"
DIMENSION = "dimension=~`${dimension:regex}`"

STATES = {"idle": 0, "running": 1, "success": 2, "partial": 3, "failed": 4}
"""A run's state as the number that panels map to a word and a colour."""

GOOD, UNSURE, BAD, TOO_SMALL, NO_THRESHOLD = 0, 1, 2, 3, -1
"""A verdict as a number: at or above the threshold; only the figure is below; its upper bound is too; not judged."""

WORST_SLICES, WORST_CLASSES, DRAWN_SLICES = 100, 20, 10
"""How many slices and classes are shown: a table of ten thousand would stop the browser."""

# Not of the metric table: of Prometheus, of node_exporter, and recorded by our rules.
UP, ALERTS, CPU_USAGE, NODE_CPU = "up", "ALERTS", "cpu_usage", "node_cpu_seconds_total"
_ALERT_LABELS = frozenset({"alertname", "alertstate", "severity", "depends_on", "retrain"})


def series(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """The chosen jobs' series of a family, further narrowed by `matchers`."""
    return f"{metric.name}{suffix}{{{', '.join((JOB, *matchers))}}}"


def label_values(metric: Metric, label: str, *matchers: str) -> str:
    """A variable's list: the values that a label has in a family."""
    narrowed = f"{{{', '.join(matchers)}}}" if matchers else ""
    return f"label_values({metric.name}{narrowed}, {label})"


def increase(metric: Metric, window: str, *matchers: str, suffix: str = "") -> str:
    """How much a family's counters rose in a window."""
    return f"increase({series(metric, *matchers, suffix=suffix)}[{window}])"


def unnamed(expression: str) -> str:
    """The same figures without the metric's name: a table joins its columns by all labels, and the name is one."""
    return f"{expression} * 1"


def or_zero(expression: str) -> str:
    """A count that is 0 where there is nothing to count."""
    return f"{expression} or vector(0)"


def run_state() -> str:
    """The state of each job's latest run, as in `STATES`."""
    coded = [f"{series(names.RUN_STATE, _equals('state', state))} * {code}" for state, code in STATES.items()]
    return f"sum without (state) ({' or '.join(coded)})"


def in_state(state: str) -> str:
    """How many jobs' latest run is in this state."""
    return or_zero(f"sum({series(names.RUN_STATE, _equals('state', state))})")


def missed() -> str:
    """1 for each job whose run is late beyond its grace, 0 for each other with a schedule."""
    return f"time() > bool ({series(names.NEXT_EXPECTED)} + {series(names.GRACE)})"


def milliseconds(timestamp: Metric) -> str:
    """A timestamp as Grafana's dates and annotations want it."""
    return f"{series(timestamp)} * 1000"


def age(timestamp: Metric, *matchers: str) -> str:
    """Seconds since a timestamp."""
    return f"time() - {series(timestamp, *matchers)}"


def verdict(figure: Metric, upper: Metric, threshold: Metric, *, ignoring: str, matchers: tuple[str, ...] = ()) -> str:
    """`GOOD`, `UNSURE` or `BAD` for each series of a figure, nothing for a job without the threshold.

    `ignoring` are the labels that the figure has beyond the threshold.
    """
    beside = f"< bool ignoring ({ignoring}) group_left {series(threshold)}"
    return f"({series(figure, *matchers)} {beside}) + ({series(upper, *matchers)} {beside})"


def model_verdict(*matchers: str) -> str:
    """Each job's worst verdict, over holdouts, accuracy and recall."""
    figures = (
        ("accuracy", names.ACCURACY, names.ACCURACY_UPPER, names.ACCURACY_THRESHOLD),
        ("recall", names.RECALL, names.RECALL_UPPER, names.RECALL_THRESHOLD),
    )
    judged = ((name, verdict(*metrics, ignoring="holdout", matchers=matchers)) for name, *metrics in figures)
    labelled = (f'label_replace({one}, "figure", "{name}", "", "")' for name, one in judged)
    return f"max without (holdout, figure) ({' or '.join(labelled)})"


def chosen_verdict() -> str:
    """The worst verdict on the chosen holdouts; `NO_THRESHOLD` where the job sets none."""
    return f"{model_verdict(HOLDOUT)} or max without (holdout) ({series(names.ACCURACY, HOLDOUT)}) * 0 {NO_THRESHOLD:+d}"


def surely_below() -> str:
    """How many jobs have a holdout whose upper bound is below the threshold, of accuracy or of recall."""
    return or_zero(f"count({model_verdict()} == {BAD})")


def firing_alerts() -> str:
    """How many of our alerts fire: those of the chosen jobs, and any dead gateway's."""
    jobs = f'{ALERTS}{{alertstate="firing", depends_on="gateway", {JOB}}}'
    return or_zero(f'count({jobs} or {ALERTS}{{alertstate="firing", alertname="BatchGatewayDown"}})')


def firing_alerts_of_each_job() -> str:
    """How many alerts fire for each job; 0 also where no rules are loaded."""
    labels = ", ".join(sorted(names.RESERVED_LABELS | _ALERT_LABELS))
    firing = f'{ALERTS}{{alertstate="firing", depends_on="gateway", {JOB}}}'
    return f"count without ({labels}) ({firing}) or {series(names.SEQUENCE)} * 0"


def gateways(*, up: int) -> str:
    """How many scraped gateways are up (1) or down (0)."""
    return or_zero(f'count({UP}{{job="pushgateway"}} == {up})')


def cpu_usage() -> str:
    """CPU usage of each host in percent: as our rule records it, else worked out from node_exporter."""
    return f'{CPU_USAGE} or 100 * (1 - avg without (cpu, mode) (rate({NODE_CPU}{{mode="idle"}}[$__rate_interval])))'


def runs_by_outcome() -> str:
    """Runs that ended, by outcome, over all chosen jobs."""
    return f"sum by (outcome) ({increase(names.RUNS, '$__rate_interval')})"


def batch_latency_buckets() -> str:
    """Batches by latency, over all series of the job."""
    return f"sum by (le) ({increase(names.BATCH_LATENCY, '$__rate_interval', suffix='_bucket')})"


def worst_slices(*, count: int, at: str = "") -> str:
    """The slices that are most surely bad: those with the lowest upper bound. A tiny slice's bound is high."""
    return f"bottomk({count}, {slices(names.SLICE_ACCURACY_UPPER)}{at})"


def of_worst_slices(metric: Metric) -> str:
    """A figure of the slices in the table."""
    return unnamed(f"({slices(metric)} and {worst_slices(count=WORST_SLICES)})")


def drawn_slices() -> str:
    """The history of the slices that are worst at the end of the time range."""
    return f"{slices(names.SLICE_ACCURACY)} and {worst_slices(count=DRAWN_SLICES, at=' @ end()')}"


def slice_verdict() -> str:
    """What can be said of each slice in the table, as a number (see `GOOD`)."""
    ignored = "holdout, dimension, value"
    chosen = (HOLDOUT, DIMENSION)
    judged = verdict(
        names.SLICE_ACCURACY, names.SLICE_ACCURACY_UPPER, names.ACCURACY_THRESHOLD, ignoring=ignored, matchers=chosen
    )
    unjudged = f"{slices(names.SLICE_ACCURACY)} * 0 {NO_THRESHOLD:+d}"
    return f"(({_small_slices()}) * 0 + {TOO_SMALL} or {judged} or {unjudged}) and {worst_slices(count=WORST_SLICES)}"


def small_slices() -> str:
    """How many slices have too few examples to be judged."""
    return or_zero(f"count({_small_slices(HOLDOUT)})")


def slices(metric: Metric) -> str:
    """A slice family, of the chosen holdouts and dimensions."""
    return series(metric, HOLDOUT, DIMENSION)


def worst_classes() -> str:
    """The classes whose recall is lowest, the lowest first."""
    return f"sort(bottomk({WORST_CLASSES}, {series(names.CLASS_RECALL, HOLDOUT)}))"


def new_models() -> str:
    """The model, for an hour after it first ran: not when it merely comes back after an outage of up to a day."""
    return f"{series(names.MODEL_INFO)} unless max_over_time({series(names.MODEL_INFO)}[1d] offset 1h)"


def _small_slices(*matchers: str) -> str:
    chosen = matchers or (HOLDOUT, DIMENSION)
    least = series(names.SLICE_MIN_EXAMPLES, HOLDOUT)
    return f"{series(names.SLICE_EXAMPLES, *chosen)} < ignoring (dimension, value) group_left {least}"


def _equals(label: str, value: str) -> str:
    return f'{label}="{value}"'
