"""One look for every panel: colours, units, thresholds, and a function for each kind of panel.

Only panel types and options that every Grafana from 9.4 on has. Sizes and places are the page's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dashboards.queries import BAD, GOOD, NO_THRESHOLD, STATES, TOO_SMALL, UNSURE
from dashboards.sdk import (
    bargauge,
    common,
    common_models,
    heatmap,
    heatmap_models,
    models,
    prometheus,
    prometheus_models,
    stat,
    statetimeline,
    timeseries,
)

DATASOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, ORANGE, RED, BLUE, GREY, PURPLE = "green", "orange", "red", "blue", "#8e8e8e", "purple"
STATE_COLOURS = {
    "idle": GREY,
    "running": BLUE,
    "success": GREEN,
    "partial": ORANGE,
    "failed": RED,
    "skipped": PURPLE,
    "missed": "light-red",
}
"""A state or an outcome has the same colour on every panel."""

Panel = models.Panel
Target = prometheus_models.Dataquery
Override = models.DashboardFieldConfigSourceOverrides
Words = Mapping[int, tuple[str, str]]
"""Numbers that stand for something: each one's word and colour."""

STATE_WORDS: Words = {code: (state, STATE_COLOURS[state]) for state, code in STATES.items()}
SCHEDULE_WORDS: Words = {0: ("on time", GREEN), 1: ("missed", RED)}
VERDICT_WORDS: Words = {
    GOOD: ("good", GREEN),
    UNSURE: ("unsure", ORANGE),
    BAD: ("below", RED),
    TOO_SMALL: ("too small", GREY),
    NO_THRESHOLD: ("no threshold", GREY),
}

Steps = tuple[tuple[float | None, str], ...]
"""From which value on which colour; the first value is None."""
PLAIN: Steps = ((None, BLUE),)
UNCOLOURED: Steps = ((None, "transparent"),)
NONE_IS_GOOD: Steps = ((None, GREEN), (1, RED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How values are shown. `words` says numbers in words; `missing` is what is said where there is no value."""

    unit: str
    decimals: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    steps: Steps = PLAIN
    words: Words = field(default_factory=dict)
    missing: str | None = None

    @property
    def thresholds(self) -> models.ThresholdsConfig:
        """The steps. A word brings its own colour, and a value that is missing then has none."""
        steps = UNCOLOURED if self.words else self.steps
        return models.ThresholdsConfig(
            mode=models.ThresholdsMode.ABSOLUTE, steps=[models.Threshold(value=value, color=colour) for value, colour in steps]
        )

    @property
    def mappings(self) -> list[models.ValueMapping]:
        """The words, as Grafana has them."""
        options = {
            str(number): models.ValueMappingResult(text=word, color=colour, index=index)
            for index, (number, (word, colour)) in enumerate(self.words.items())
        }
        return [models.ValueMap(options=options)] if options else []


def ranged(expression: str, legend: str) -> Target:
    """A query over the time range."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).range().editor_mode(_CODE).build()


def latest(expression: str, legend: str) -> Target:
    """A query at the end of the time range."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).instant().editor_mode(_CODE).build()


_CODE = prometheus_models.QueryEditorMode.CODE
PERCENT = Look(unit="percentunit", decimals=1, minimum=0, maximum=1)
"""A ratio from 0 to 1, in percent."""
RATIO = Look(unit=PERCENT.unit, decimals=1, missing="–")
"""The same in a table, where it may be absent."""


def stat_panel(title: str, description: str, *targets: Target, look: Look, names_only: bool = False) -> Panel:
    """A few figures, large. With `names_only` the series' names are what is shown."""
    mode = common_models.BigValueTextMode.NAME if names_only else common_models.BigValueTextMode.AUTO
    coloured = bool(look.words) or len(look.steps) > 1
    colour = common_models.BigValueColorMode.BACKGROUND if coloured else common_models.BigValueColorMode.VALUE
    builder = stat.Panel().text_mode(mode).color_mode(colour).graph_mode(common_models.BigValueGraphMode.NONE)
    return finished(builder.reduce_options(_LAST).build(), title, description, targets, look)


def line_panel(
    title: str,
    description: str,
    *targets: Target,
    look: Look,
    overrides: Sequence[Override] = (),
    logarithmic: bool = False,
) -> Panel:
    """Lines over time. A run's figures hold until the next run, so lines go in steps.

    A `logarithmic` axis has no 0: its look must not have a minimum.
    """
    builder = _timeseries().line_interpolation(common_models.LineInterpolation.STEP_AFTER).line_width(1).fill_opacity(0)
    if logarithmic:
        builder.scale_distribution(
            common.ScaleDistributionConfig().type(common_models.ScaleDistribution.LOG).log(10)  # seconds span decades
        )
    return finished(builder.build(), title, description, targets, look, overrides=overrides)


def stacked_panel(
    title: str,
    description: str,
    *targets: Target,
    look: Look,
    overrides: Sequence[Override] = (),
    interval: str | None = None,
    bars: bool = False,
) -> Panel:
    """Parts of a whole over time, stacked: areas, or bars for what happens at an instant."""
    builder = _timeseries().line_width(1).fill_opacity(70)
    if interval:
        builder.interval(interval)
    builder.draw_style(common_models.GraphDrawStyle.BARS if bars else common_models.GraphDrawStyle.LINE)
    builder.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    return finished(builder.build(), title, description, targets, look, overrides=overrides)


def timeline_panel(title: str, description: str, *targets: Target, look: Look) -> Panel:
    """States over time, as coloured stretches."""
    builder = statetimeline.Panel().merge_values(True).show_value(common_models.VisibilityMode.AUTO)
    return finished(builder.legend(_legend()).build(), title, description, targets, look)


def heatmap_panel(title: str, description: str, expression: str, *, unit: str) -> Panel:
    """A histogram over time. `expression` gives the increase of cumulative buckets, by `le`; `unit` is that of their bounds."""
    colour = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
    builder = heatmap.Panel().calculate(False).color(colour.reverse(True).exponent(0.5).fill(BLUE))
    builder.y_axis(heatmap.YAxisConfig().unit(unit)).max_data_points(120)
    target = ranged(expression, "{{le}}")
    target.format_val = prometheus_models.PromQueryFormat.HEATMAP
    return finished(builder.build(), title, description, [target], Look(unit="short", decimals=0))


def bar_panel(title: str, description: str, *targets: Target, look: Look) -> Panel:
    """Figures side by side, as horizontal bars coloured by value."""
    builder = bargauge.Panel().display_mode(common_models.BarGaugeDisplayMode.BASIC).reduce_options(_LAST)
    return finished(builder.orientation(common_models.VizOrientation.HORIZONTAL).build(), title, description, targets, look)


def threshold_line(query: str) -> Override:
    """The look of the query that gives the threshold: a dashed red line."""
    dashes = {"fill": "dash", "dash": [10, 10]}
    return on_query(query, color={"mode": "fixed", "fixedColor": RED}, custom_lineStyle=dashes, custom_lineWidth=2)


def band(*, upper: str, lower: str, lower_name: str) -> tuple[Override, Override]:
    """The look of the queries that give bounds: a band, filled from the upper down to the series named `lower_name`."""
    shared = {"color": {"mode": "fixed", "fixedColor": BLUE}, "custom_lineWidth": 0}
    filled = on_query(upper, **shared, custom_fillBelowTo=lower_name, custom_fillOpacity=20)
    return filled, on_query(lower, **shared)


def outcome_colours() -> list[Override]:
    """Each outcome's series in the outcome's colour."""
    return [
        override("byName", outcome, {"color": {"mode": "fixed", "fixedColor": colour}})
        for outcome, colour in STATE_COLOURS.items()
    ]


def on_query(query: str, **properties: object) -> Override:
    """The look of one query's series; in a property's name `_` stands for a dot."""
    return override("byFrameRefID", query, {name.replace("_", ".", 1): value for name, value in properties.items()})


_LAST = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def finished(
    panel: Panel,
    title: str,
    description: str,
    targets: Sequence[Target],
    look: Look,
    *,
    overrides: Iterable[Override] = (),
) -> Panel:
    """The panel with all that every panel has: its text, its queries (named A, B and so on), how its values are shown."""
    panel.title, panel.description, panel.datasource = title, description, DATASOURCE
    for index, target in enumerate(targets):
        target.ref_id, target.datasource = letter(index), DATASOURCE
    panel.targets = list(targets)
    source = panel.field_config or models.FieldConfigSource()
    shown = source.defaults
    shown.unit, shown.decimals, shown.min_val, shown.max_val = look.unit, look.decimals, look.minimum, look.maximum
    shown.no_value = look.missing
    shown.mappings = look.mappings or None
    shown.thresholds = look.thresholds
    graph = panel.type_val in {"timeseries", "heatmap"}
    mode = models.FieldColorModeId.PALETTE_CLASSIC if graph else models.FieldColorModeId.THRESHOLDS
    shown.color = models.FieldColor(mode=mode)
    source.overrides = list(overrides)
    panel.field_config = source
    return panel


def _timeseries() -> timeseries.Panel:
    builder = timeseries.Panel().legend(_legend().show_legend(True)).show_points(common_models.VisibilityMode.NEVER)
    tooltip = common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI).sort(common_models.SortOrder.DESCENDING)
    return builder.tooltip(tooltip)


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(common_models.LegendDisplayMode.LIST)
    return legend.placement(common_models.LegendPlacement.BOTTOM)


def override(matcher: str, options: str, properties: Mapping[str, object]) -> Override:
    """Another look for the series or columns that match: Grafana's matcher, what it looks for, Grafana's properties."""
    values = [models.DynamicConfigValue(id_val=name, value=value) for name, value in properties.items()]
    return Override(matcher=models.MatcherConfig(id_val=matcher, options=options), properties=values)


def letter(index: int) -> str:
    """A query's name: A, B and so on."""
    return chr(ord("A") + index)
