"""One job: what its runs did, how long they took, what they cost."""

from __future__ import annotations

from dashboards import queries
from dashboards.page import BATCH_RUN, FLEET, MODEL_QUALITY, Page, Row, chosen_one, link, mark
from dashboards.panels import (
    BLUE,
    GREEN,
    NONE_IS_GOOD,
    ORANGE,
    STATE_WORDS,
    Look,
    Panel,
    heatmap_panel,
    latest,
    line_panel,
    on_query,
    ranged,
    stacked_panel,
    stat_panel,
    threshold_line,
    timeline_panel,
)
from monitoring import names

_SECONDS = Look(unit="s", minimum=0)
_ROWS = Look(unit="short", decimals=0, minimum=0)


def page() -> Page:
    """The dashboard. It is about one job: a heatmap, shares of time and memory of several jobs would say nothing."""
    return Page(
        uid=BATCH_RUN,
        title="Batch run",
        description="One job: its runs, their duration, throughput, latency and cost.",
        since="7d",
        refresh="1m",
        variables=[chosen_one("job", "Job", "The job to show.", queries.label_values(names.SEQUENCE, "job"))],
        links=[
            link("Fleet", FLEET, "Every job.", variables=False),
            link("Model quality", MODEL_QUALITY, "This job's model; for a job with holdouts.", variables=True),
        ],
        annotations=[
            mark(
                "Runs",
                queries.milliseconds(names.RUN_FINISHED),
                GREEN,
                title="A run ended",
                text="{{job}} {{env}}",
                value_is_time=True,
            )
        ],
        layout=[
            Row(4, tuple((4, panel) for panel in _summary())),
            Row(5, ((24, _states()),)),
            Row(8, ((12, _duration()), (12, _rows()))),
            Row(8, ((8, _throughput()), (8, _latency()), (8, _latencies()))),
            Row(8, ((12, _stages()), (12, _rejected()))),
            Row(8, ((12, _cpu()), (12, _memory()))),
        ],
    )


def _summary() -> tuple[Panel, ...]:
    return (
        stat_panel(
            "Last run",
            "The state of the latest run.",
            latest(queries.run_state(), "{{env}}"),
            look=Look(unit="none", words=STATE_WORDS),
        ),
        stat_panel(
            "Last success, ago",
            "Time since a run last ended with success.",
            latest(queries.age(names.RUN_LAST_SUCCESS), "{{env}}"),
            look=Look(unit="s", decimals=1, missing="never"),
        ),
        stat_panel(
            "Next run",
            "When the schedule expects the next run.",
            latest(queries.milliseconds(names.NEXT_EXPECTED), "{{env}}"),
            look=Look(unit="dateTimeFromNow", missing="not scheduled"),
        ),
        stat_panel(
            "Rows scored",
            "Rows scored by the latest run; while one is in progress, so far.",
            latest(queries.series(names.RUN_ROWS, 'disposition="scored"'), "{{env}}"),
            look=_ROWS,
        ),
        stat_panel(
            "Parts done",
            "Parts that the latest finished run scored, and those that it skipped because they were done before.",
            latest(queries.series(names.RUN_PARTS), "{{disposition}} {{env}}"),
            look=_ROWS,
        ),
        stat_panel(
            "Alerts firing",
            "Alerts of this job, and of dead gateways. 0 also where no alert rules are loaded.",
            latest(queries.firing_alerts(), ""),
            look=Look(unit="none", decimals=0, steps=NONE_IS_GOOD),
        ),
    )


def _states() -> Panel:
    return timeline_panel(
        "What state was it in?",
        "The state of the latest run over time: idle before the first run, then each run's outcome until the next.",
        ranged(queries.run_state(), "{{job}} {{env}}"),
        look=Look(unit="none", words=STATE_WORDS),
    )


def _duration() -> Panel:
    return line_panel(
        "How long did runs take?",
        "Duration of the latest finished run in seconds. Dashed: job.timeout, where the job sets one.",
        ranged(queries.series(names.RUN_DURATION), "duration {{env}}"),
        ranged(queries.series(names.TIMEOUT), "timeout {{env}}"),
        look=Look(unit="s"),
        overrides=[threshold_line("B")],
        logarithmic=True,
    )


def _rows() -> Panel:
    return line_panel(
        "How many rows?",
        "Rows of the latest run: read = scored + rejected. While a run is in progress, its rows so far.",
        ranged(queries.series(names.RUN_ROWS), "{{disposition}} {{env}}"),
        look=_ROWS,
    )


def _throughput() -> Panel:
    return line_panel(
        "How fast?",
        "Rows scored for each second of scoring, in the latest finished run.",
        ranged(queries.series(names.THROUGHPUT), "rows/s {{env}}"),
        look=Look(unit="rowsps", minimum=0),
    )


def _latency() -> Panel:
    def percentile(value: str) -> str:
        return queries.series(names.LATENCY_QUANTILE, f'percentile="{value}"')

    return line_panel(
        "How long do batches take?",
        "Latency of the latest finished run's batches in seconds: what 50, 95 and 99 % of them did not exceed; and the mean "
        "for each row. Dashed: the job's threshold.",
        ranged(percentile("50"), "p50 {{env}}"),
        ranged(percentile("95"), "p95 {{env}}"),
        ranged(percentile("99"), "p99 {{env}}"),
        ranged(queries.series(names.LATENCY), "mean of a row {{env}}"),
        ranged(queries.series(names.LATENCY_THRESHOLD), "threshold {{env}}"),
        look=Look(unit="s"),
        overrides=[threshold_line("E")],
        logarithmic=True,
    )


def _latencies() -> Panel:
    return heatmap_panel(
        "How are batch latencies spread?",
        "Batches by latency in seconds, as they were counted while runs went on. The environments of a job are added up.",
        queries.batch_latency_buckets(),
        unit="s",
    )


def _stages() -> Panel:
    return stacked_panel(
        "Where does the time go?",
        "Seconds in each stage over the day before, summed over workers.",
        ranged(queries.increase(names.STAGE_SECONDS, "1d"), "{{stage}} {{env}}"),
        look=_SECONDS,
    )


def _rejected() -> Panel:
    return stacked_panel(
        "Which rows were rejected?",
        "Rows that were not scored over the day before, by reason.",
        ranged(queries.increase(names.ROWS_REJECTED, "1d"), "{{reason}} {{env}}"),
        look=_ROWS,
    )


def _cpu() -> Panel:
    return line_panel(
        "How much CPU did it use?",
        "CPU time of the latest finished run, as a share of all cores that it could use.",
        ranged(queries.series(names.RUN_CPU), "CPU {{env}}"),
        look=Look(unit="percentunit", decimals=0, minimum=0, maximum=1),
    )


def _memory() -> Panel:
    return line_panel(
        "How much memory did it use?",
        "Peak memory of the latest finished run in bytes: resident, and on the accelerator where it used one.",
        ranged(queries.series(names.RUN_MEMORY), "resident {{env}}"),
        ranged(queries.series(names.RUN_ACCELERATOR_MEMORY), "accelerator {{env}}"),
        look=Look(unit="bytes", minimum=0),
        overrides=[
            on_query("A", color={"mode": "fixed", "fixedColor": BLUE}),
            on_query("B", color={"mode": "fixed", "fixedColor": ORANGE}),
        ],
    )
