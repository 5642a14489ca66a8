"""One job's model: whether it is good enough, how sure that is, and for whom it is worst."""

from __future__ import annotations

from dashboards import queries
from dashboards.page import BATCH_RUN, FLEET, MODEL_QUALITY, Heading, Page, Row, chosen_many, chosen_one, link, mark
from dashboards.panels import (
    BLUE,
    ORANGE,
    PERCENT,
    PURPLE,
    RATIO,
    VERDICT_WORDS,
    Look,
    Panel,
    band,
    bar_panel,
    latest,
    line_panel,
    on_query,
    ranged,
    stat_panel,
    threshold_line,
)
from dashboards.tables import Column, LabelColumn, table_panel
from monitoring import names
from monitoring.names import Metric

_COUNT = Look(unit="none", decimals=0)
_VERDICT = Look(unit="none", words=VERDICT_WORDS)
_NO_SLICES = "no slices"


def page() -> Page:
    """The dashboard. It is about one job's model; holdouts and dimensions can be chosen, by default all."""
    return Page(
        uid=MODEL_QUALITY,
        title="Model quality",
        description="One job's model on its labelled holdouts: accuracy, recall, their 95 % bounds, and its worst slices.",
        since="30d",
        refresh="5m",
        variables=[
            chosen_one(
                "job",
                "Job",
                "The job to show: one whose model was judged on a holdout.",
                queries.label_values(names.EVALUATED, "job"),
            ),
            chosen_many(
                "holdout",
                "Holdout",
                "The holdouts to show, by default all.",
                queries.label_values(names.EVALUATED, "holdout", queries.JOB),
            ),
            chosen_many(
                "dimension",
                "Dimension",
                "The dimensions to slice by, by default all.",
                queries.label_values(names.SLICE_EXAMPLES, "dimension", queries.JOB, queries.HOLDOUT),
            ),
        ],
        links=[
            link("Fleet", FLEET, "Every job.", variables=False),
            link("Batch run", BATCH_RUN, "This job's runs.", variables=True),
        ],
        annotations=[
            mark(
                "New models",
                queries.new_models(),
                PURPLE,
                title="Model {{version}}",
                text="{{format}} {{sha256}}",
                value_is_time=False,
            )
        ],
        layout=[
            Row(4, tuple((4, panel) for panel in _summary())),
            Heading("Holdout $holdout", repeat="holdout"),
            Row(8, ((12, _accuracy()), (12, _recall()))),
            Heading("Slices and classes"),
            Row(11, ((24, _slices()),)),
            Row(9, ((16, _slice_history()), (8, _classes()))),
        ],
    )


def _summary() -> tuple[Panel, ...]:
    def of_holdout(metric: Metric) -> str:
        return queries.series(metric, queries.HOLDOUT)

    return (
        stat_panel(
            "Good enough?",
            "The worst verdict on the chosen holdouts' accuracy and recall. 'below': the upper 95 % bound is below the job's "
            "threshold. 'unsure': only the figure is, and there are too few examples to be sure.",
            latest(queries.chosen_verdict(), "{{env}}"),
            look=_VERDICT,
        ),
        stat_panel(
            "Accuracy",
            "Share of labelled examples predicted right.",
            latest(of_holdout(names.ACCURACY), "{{holdout}} {{env}}"),
            look=PERCENT,
        ),
        stat_panel(
            "Recall",
            "Binary: recall of the positive class; multiclass: mean of the classes' recalls.",
            latest(of_holdout(names.RECALL), "{{holdout}} {{env}}"),
            look=Look(unit=PERCENT.unit, decimals=1, missing="no example to recall"),
        ),
        stat_panel(
            "Model",
            "The version of the model that last ran.",
            latest(queries.series(names.MODEL_INFO), "{{version}} {{env}}"),
            look=_COUNT,
            names_only=True,
        ),
        stat_panel(
            "Judged, ago",
            "Time since the model was last judged on each holdout.",
            latest(queries.age(names.EVALUATED, queries.HOLDOUT), "{{holdout}} {{env}}"),
            look=Look(unit="s", decimals=1),
        ),
        stat_panel(
            "Slices not judged",
            "Slices with too few examples to be judged, and slices over the budget, which are summed or left out.",
            latest(queries.small_slices(), "too small"),
            latest(f"sum({of_holdout(names.SLICES_DROPPED)})", "over the budget"),
            look=Look(unit="none", decimals=0, steps=((None, "green"), (1, ORANGE))),
        ),
    )


def _accuracy() -> Panel:
    return _figure(
        "How accurate is it?",
        "Share of labelled examples predicted right, with its 95 % bounds as a band. Dashed: the job's threshold.",
        "accuracy",
        (names.ACCURACY, names.ACCURACY_UPPER, names.ACCURACY_LOWER, names.ACCURACY_THRESHOLD),
    )


def _recall() -> Panel:
    return _figure(
        "How much of what matters does it find?",
        "Recall of the positive class, or the mean of the classes' recalls, with its 95 % bounds as a band. Dashed: the "
        "job's threshold.",
        "recall",
        (names.RECALL, names.RECALL_UPPER, names.RECALL_LOWER, names.RECALL_THRESHOLD),
    )


def _figure(title: str, description: str, name: str, metrics: tuple[Metric, Metric, Metric, Metric]) -> Panel:
    """A figure over time, its bounds as a band, its threshold as a line."""
    figure, upper, lower, threshold = metrics
    return line_panel(
        title,
        description,
        ranged(queries.series(figure, queries.HOLDOUT), f"{name} {{{{env}}}}"),
        ranged(queries.series(upper, queries.HOLDOUT), "upper bound"),
        ranged(queries.series(lower, queries.HOLDOUT), "lower bound"),
        ranged(queries.series(threshold), "threshold"),
        look=Look(unit=PERCENT.unit, decimals=1, maximum=1),
        overrides=[
            on_query("A", color={"mode": "fixed", "fixedColor": BLUE}, custom_lineWidth=2),
            *band(upper="B", lower="C", lower_name="lower bound"),
            threshold_line("D"),
        ],
    )


def _slices() -> Panel:
    def column(name: str, metric: Metric) -> Column:
        return Column(name=name, expression=queries.of_worst_slices(metric), look=RATIO)

    return table_panel(
        "Which slices are worst?",
        f"The {queries.WORST_SLICES} slices that are most surely bad, by the upper 95 % bound of their accuracy: a slice of a "
        "few examples has a high one. 'below': that bound is below the job's threshold. 'too small': fewer examples than the "
        "holdout's min_examples.",
        [
            LabelColumn(name="Holdout", label="holdout"),
            LabelColumn(name="Dimension", label="dimension"),
            LabelColumn(name="Slice", label="value"),
        ],
        [
            column("Upper bound", names.SLICE_ACCURACY_UPPER),
            column("Accuracy", names.SLICE_ACCURACY),
            column("Lower bound", names.SLICE_ACCURACY_LOWER),
            Column(name="Verdict", expression=queries.slice_verdict(), look=_VERDICT, coloured=True),
            Column(
                name="Examples",
                expression=queries.of_worst_slices(names.SLICE_EXAMPLES),
                look=Look(unit="short", decimals=0),
            ),
            column("Recall", names.SLICE_RECALL),
        ],
        hidden=["job"],
        sort_by="Upper bound",
    )


def _slice_history() -> Panel:
    return line_panel(
        "How did the worst slices get there?",
        f"Accuracy over time of the {queries.DRAWN_SLICES} slices that are worst at the end of the time range.",
        ranged(queries.drawn_slices(), "{{holdout}}: {{dimension}} = {{value}} {{env}}"),
        look=Look(unit=PERCENT.unit, decimals=1, maximum=1, missing=_NO_SLICES),
    )


def _classes() -> Panel:
    return bar_panel(
        "Which classes does it miss?",
        f"Recall of the {queries.WORST_CLASSES} classes where it is lowest.",
        latest(queries.worst_classes(), "{{holdout}}: {{class}} {{env}}"),
        look=Look(unit=PERCENT.unit, decimals=1, minimum=0, maximum=1),
    )
