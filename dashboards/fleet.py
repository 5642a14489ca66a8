"""Every job at a glance, so that the one that needs a look is seen."""

from __future__ import annotations

from dashboards import queries
from dashboards.page import BATCH_RUN, FLEET, MODEL_QUALITY, Page, Row, chosen_many, link
from dashboards.panels import (
    NONE_IS_GOOD,
    RATIO,
    RED,
    SCHEDULE_WORDS,
    STATE_WORDS,
    VERDICT_WORDS,
    Look,
    Panel,
    latest,
    line_panel,
    outcome_colours,
    ranged,
    stacked_panel,
    stat_panel,
)
from dashboards.tables import Column, LabelColumn, table_panel
from monitoring import names

_COUNT = Look(unit="none", decimals=0)
_COUNT_OF_BAD = Look(unit="none", decimals=0, steps=NONE_IS_GOOD)
_KEPT = "${datasource:queryparam}&${__url_time_range}"
_TO_RUN = ("Batch run", f"/d/{BATCH_RUN}?{_KEPT}&var-job=${{__value.raw:percentencode}}")
_TO_QUALITY = ("Model quality", f"/d/{MODEL_QUALITY}?{_KEPT}&var-job=${{__data.fields.Job:percentencode}}")


def page() -> Page:
    """The dashboard. Its job variable takes many values: it is there to narrow the table."""
    return Page(
        uid=FLEET,
        title="Fleet",
        description="Every batch job at a glance.",
        since="24h",
        refresh="1m",
        variables=[
            chosen_many(
                "job",
                "Job",
                "The jobs to show, by default all.",
                queries.label_values(names.SEQUENCE, "job"),
            )
        ],
        # The chosen jobs are not handed on: the other dashboards show one job. A row of the table leads there.
        links=[
            link("Batch run", BATCH_RUN, "One job's runs.", variables=False),
            link("Model quality", MODEL_QUALITY, "One job's model.", variables=False),
        ],
        layout=[
            Row(4, tuple((4, panel) for panel in _counts())),
            Row(15, ((24, _jobs()),)),
            Row(8, ((12, _runs()), (12, _hosts()))),
        ],
    )


def _counts() -> tuple[Panel, ...]:
    return (
        stat_panel(
            "Jobs",
            "Jobs whose state a gateway holds.",
            latest(queries.or_zero(f"count({queries.series(names.SEQUENCE)})"), ""),
            look=_COUNT,
        ),
        stat_panel("Failed", "Jobs whose latest run failed.", latest(queries.in_state("failed"), ""), look=_COUNT_OF_BAD),
        stat_panel(
            "Missed",
            "Jobs that should have run by now, their grace included, and have not.",
            latest(queries.or_zero(f"sum({queries.missed()})"), ""),
            look=_COUNT_OF_BAD,
        ),
        stat_panel(
            "Models surely below",
            "Jobs whose accuracy or recall is below its threshold, its upper 95 % bound included, on some holdout.",
            latest(queries.surely_below(), ""),
            look=_COUNT_OF_BAD,
        ),
        stat_panel(
            "Alerts firing",
            "Alerts of the chosen jobs, and of dead gateways. 0 also where no alert rules are loaded.",
            latest(queries.firing_alerts(), ""),
            look=_COUNT_OF_BAD,
        ),
        stat_panel(
            "Gateways",
            "Pushgateways that Prometheus can scrape, and those that it can't: what jobs say then is old.",
            latest(queries.gateways(up=1), "up"),
            latest(queries.gateways(up=0), "down"),
            look=Look(unit="none", decimals=0, steps=((None, RED), (1, "green"))),
        ),
    )


def _jobs() -> Panel:
    return table_panel(
        "Which job needs a look?",
        "One row for each job; its name leads to its runs, its figures of quality to its model. Accuracy and recall are "
        "those of its worst holdout; 'below' says that the upper 95 % bound is below the threshold, 'unsure' that only "
        "the figure is. Labels that jobs are pushed with, such as env, are columns at the end.",
        [LabelColumn(name="Job", label="job", link=_TO_RUN)],
        [
            Column(name="Last run", expression=queries.run_state(), look=Look(unit="none", words=STATE_WORDS), coloured=True),
            Column(
                name="Schedule",
                expression=queries.missed(),
                look=Look(unit="none", words=SCHEDULE_WORDS, missing="–"),
                coloured=True,
            ),
            Column(
                name="Last success, ago",
                expression=queries.age(names.RUN_LAST_SUCCESS),
                look=Look(unit="s", decimals=1, missing="never"),
            ),
            Column(
                name="Next run",
                expression=queries.milliseconds(names.NEXT_EXPECTED),
                look=Look(unit="dateTimeFromNow", missing="not scheduled"),
            ),
            Column(
                name="Rows",
                expression=f"max without (disposition) ({queries.series(names.RUN_ROWS, _SCORED)})",
                look=Look(unit="short", decimals=0),
            ),
            Column(
                name="Throughput",
                expression=queries.unnamed(queries.series(names.THROUGHPUT)),
                look=Look(unit="rowsps", decimals=0, missing="–"),
            ),
            Column(name="Accuracy", expression=_worst(names.ACCURACY), look=RATIO, link=_TO_QUALITY),
            Column(name="At least", expression=queries.unnamed(queries.series(names.ACCURACY_THRESHOLD)), look=RATIO),
            Column(name="Recall", expression=_worst(names.RECALL), look=RATIO, link=_TO_QUALITY),
            Column(
                name="Model",
                expression=queries.model_verdict(),
                look=Look(unit="none", words=VERDICT_WORDS, missing="–"),
                coloured=True,
                link=_TO_QUALITY,
            ),
            Column(name="Alerts", expression=queries.firing_alerts_of_each_job(), look=_COUNT_OF_BAD, coloured=True),
        ],
        sort_by="Job",
    )


_SCORED = 'disposition="scored"'


def _worst(metric: names.Metric) -> str:
    return f"min without (holdout) ({queries.series(metric)})"


def _runs() -> Panel:
    return stacked_panel(
        "When did runs end, and how?",
        "Runs that ended, by outcome, in bars of an hour or more.",
        ranged(queries.runs_by_outcome(), "{{outcome}}"),
        look=Look(unit="short", decimals=0, minimum=0),
        overrides=outcome_colours(),
        interval="1h",
        bars=True,
    )


def _hosts() -> Panel:
    return line_panel(
        "How busy are the hosts?",
        "CPU usage of each host in percent, from node_exporter.",
        ranged(queries.cpu_usage(), "{{instance}}"),
        look=Look(unit="percent", decimals=0, minimum=0, maximum=100, missing="no node_exporter is scraped"),
    )
