"""Tables: a row for each set of labels, a column for each query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.panels import Look, Override, Panel, Target, finished, latest, letter, override
from dashboards.sdk import common, models, prometheus_models, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of figures. `coloured` colours the cell's background; `link` is where a click on it leads: title, URL."""

    name: str
    expression: str
    look: Look
    coloured: bool = False
    link: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumn:
    """A column that shows a label."""

    name: str
    label: str
    link: tuple[str, str] | None = None


def table_panel(
    title: str,
    description: str,
    labels: Sequence[LabelColumn],
    columns: Sequence[Column],
    *,
    hidden: Sequence[str] = (),
    sort_by: str,
) -> Panel:
    """A row for each set of labels, a column for each query, joined on all labels.

    All queries must give the same labels, and no metric name: or a row falls apart. Labels that are not named here
    become columns of their own at the end (such as `env`), except the `hidden` ones.
    """
    fields = {one.label: one.name for one in labels}
    # What Grafana calls the figures of a query.
    fields |= {f"Value #{letter(index)}": column.name for index, column in enumerate(columns)}
    builder = table.Panel().sort_by([common.TableSortByFieldState().display_name(sort_by).desc(False)])
    builder.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    organised = {
        "excludeByName": dict.fromkeys(("Time", *hidden), True),
        "indexByName": {name: index for index, name in enumerate(fields)},
        "renameByName": fields,
    }
    builder.with_transformation(models.DataTransformerConfig(id_val="organize", options=organised))
    overrides = [_label_override(one) for one in labels] + [_column_override(one) for one in columns]
    return finished(
        builder.build(),
        title,
        description,
        [_tabular(one.expression) for one in columns],
        Look(unit="none"),
        overrides=overrides,
    )


def _tabular(expression: str) -> Target:
    target = latest(expression, "")
    target.format_val = prometheus_models.PromQueryFormat.TABLE
    return target


def _label_override(column: LabelColumn) -> Override:
    # A label is text, also where it could be read as a number.
    return override("byName", column.name, {"unit": "string", "custom.filterable": True} | _links(column.link))


def _column_override(column: Column) -> Override:
    look = column.look
    properties: dict[str, object] = {"unit": look.unit, "thresholds": look.thresholds} | _links(column.link)
    if look.decimals is not None:
        properties["decimals"] = look.decimals
    if look.words:
        properties["mappings"] = look.mappings
    if look.missing is not None:
        properties["noValue"] = look.missing
    if column.coloured:
        # The name from before 9.5; later versions translate it (the dashboards' schema version is 9.4's).
        properties["custom.displayMode"] = "color-background-solid"
    return override("byName", column.name, properties)


def _links(link: tuple[str, str] | None) -> dict[str, object]:
    return {"links": [{"title": link[0], "url": link[1], "targetBlank": False}]} if link else {}
