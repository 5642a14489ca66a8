"""A whole dashboard: its variables, links and annotations, and where its panels lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.panels import DATASOURCE, Panel
from dashboards.sdk import dashboard, models

FLEET, BATCH_RUN, MODEL_QUALITY, RUNS = "batchgauge-fleet", "batchgauge-run", "batchgauge-quality", "batchgauge-runs"
"""The dashboards' uids, by which they link to each other."""

WIDTH = 24
"""Columns of Grafana's grid."""

SCHEMA_VERSION = 37
"""Grafana 9.4's: newer ones bring an older schema up to date, older ones don't understand a newer one."""

# `.` matches a newline in Prometheus 3 and not in 2; a name may have one.
_ALL = "(?s:.+)"


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, each with its width; the widths sum to `WIDTH`."""

    height: int
    panels: tuple[tuple[int, Panel], ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading over what follows; with `repeat` that is shown once for each chosen value of the variable."""

    title: str
    repeat: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A dashboard. `since` and `refresh` are Grafana's durations, such as `7d` and `1m`."""

    uid: str
    title: str
    description: str
    since: str
    refresh: str
    variables: Sequence[dashboard.QueryVariable | dashboard.DatasourceVariable]
    links: Sequence[dashboard.DashboardLink]
    layout: Sequence[Row | Heading]
    annotations: Sequence[dashboard.AnnotationQuery] = ()

    def build(self) -> models.Dashboard:
        """The dashboard as Grafana's model. Raises `ValueError` when a row's widths don't sum to the grid's."""
        builder = dashboard.Dashboard(self.title).uid(self.uid).description(self.description).tags(["batchgauge"])
        builder.readonly().timezone("browser").time(f"now-{self.since}", "now").refresh(self.refresh)
        builder.tooltip(models.DashboardCursorSync.CROSSHAIR)
        builder.variables([_datasource(), *self.variables]).links(list(self.links)).annotations(list(self.annotations))
        built = builder.build()
        built.schema_version = SCHEMA_VERSION
        built.panels = _placed(self.layout)
        return built


def chosen_one(name: str, label: str, description: str, query: str) -> dashboard.QueryVariable:
    """A variable with one value."""
    variable = dashboard.QueryVariable(name).label(label).description(description).query(query).definition(query)
    variable.datasource(DATASOURCE).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.sort(models.VariableSort.NATURAL_ASC)


def chosen_many(name: str, label: str, description: str, query: str) -> dashboard.QueryVariable:
    """A variable with any number of values: at first all there are."""
    variable = chosen_one(name, label, description, query).multi(True).include_all(True).all_value(_ALL)
    return variable.current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))


def link(title: str, uid: str, tooltip: str, *, variables: bool) -> dashboard.DashboardLink:
    """A link to another dashboard, which keeps the time range, the data source and, if asked, all other variables."""
    built = dashboard.DashboardLink(title).type(models.DashboardLinkType.LINK).icon("dashboard").tooltip(tooltip)
    built.keep_time(True).include_vars(variables)
    return built.url(f"/d/{uid}" if variables else f"/d/{uid}?${{datasource:queryparam}}")


def mark(name: str, expression: str, colour: str, *, title: str, text: str, value_is_time: bool) -> dashboard.AnnotationQuery:
    """Marks on every graph: where the expression has a value, or at the time (in milliseconds) that its value is."""
    annotation = dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).icon_color(colour)
    return annotation.expr(expression).title_format(title).text_format(text).step("60s").use_value_for_time(value_is_time)


def _datasource() -> dashboard.DatasourceVariable:
    variable = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return variable.description("The Prometheus that scrapes the Pushgateway.")


def _placed(layout: Sequence[Row | Heading]) -> list[Panel | models.RowPanel]:
    """The panels, numbered and placed from the top."""
    placed: list[Panel | models.RowPanel] = []
    top = 0
    for part in layout:
        if isinstance(part, Heading):
            place = models.GridPos(h=1, w=WIDTH, x=0, y=top)
            placed.append(models.RowPanel(title=part.title, repeat=part.repeat, grid_pos=place, id_val=len(placed) + 1))
            top += 1
            continue
        left = 0
        for width, panel in part.panels:
            panel.grid_pos, panel.id_val = models.GridPos(h=part.height, w=width, x=left, y=top), len(placed) + 1
            placed.append(panel)
            left += width
        if left != WIDTH:
            titles = ", ".join(str(panel.title) for _, panel in part.panels)
            raise ValueError(f"the row of {titles} is {left} columns wide; it must be {WIDTH}")
        top += part.height
    return placed
