"""Every run as a row of a table, for those whose ledger is in PostgreSQL: Grafana's own data source asks it.

Nothing here goes by way of Prometheus, so that it tells also of runs that were never pushed, as far back as runs are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from dashboards.page import BATCH_RUN, FLEET, RUNS, Page, Row, link
from dashboards.panels import ORANGE, STATE_COLOURS, Override, Panel, letter, override
from dashboards.sdk import common, common_models, dashboard, models, table, variants

# What the plug-in was called first; newer Grafanas know it by that name too.
_PLUGIN = "postgres"
_LEDGER = common_models.DataSourceRef(type_val=_PLUGIN, uid="${ledger}")
_MOST_RUNS = 1_000

JOBS = "SELECT job FROM jobs ORDER BY job"
"""The jobs to choose from."""

# PostgreSQL refuses a whole query for the text \u0000 in one report, such as in a slice's name; that run is shown without.
SQL = f"""
SELECT
  to_timestamp(started_at) AS "Started",
  job AS "Job",
  coalesce(outcome, 'running') AS "Outcome",
  finished_at - started_at AS "Took",
  rows_scored AS "Rows",
  rows_read - rows_scored AS "Rejected",
  rows_scored / nullif((told ->> 'scoring_seconds')::double precision, 0) AS "Rows a second",
  (SELECT min((holdout -> 'accuracy' ->> 0)::double precision) FROM json_array_elements(told -> 'holdouts') holdout) AS "Accuracy",
  (SELECT min((holdout -> 'recall' ->> 0)::double precision) FROM json_array_elements(told -> 'holdouts') holdout) AS "Recall",
  coalesce(told -> 'model' ->> 'version', model::json ->> 'version', '') AS "Model",
  trigger AS "Started by",
  logical_date AS "Day",
  host AS "Host",
  coalesce(told ->> 'reason', '') AS "Reason",
  floor(started_at * 1000)::bigint::text AS "From",
  coalesce(ceil(finished_at * 1000)::bigint::text, 'now') AS "To"
FROM (SELECT *, CASE WHEN position('\\u0000' IN report) = 0 THEN report::json END AS told FROM runs) runs
WHERE $__unixEpochFilter(started_at) AND job IN (${{job:sqlstring}})
ORDER BY ordinal DESC
LIMIT {_MOST_RUNS}
""".strip()  # noqa: E501, S608  a query reads best in one piece, and nothing of anybody's is put into it

_TO_RUN = (
    f"/d/{BATCH_RUN}?${{datasource:queryparam}}&var-job=${{__data.fields.Job:percentencode}}"
    "&from=${__data.fields.From}&to=${__data.fields.To}"
)


@dataclass(slots=True)
class _Query(variants.Dataquery):
    """A query of the PostgreSQL data source, for which the SDK has no builder."""

    sql: str
    ref_id: str = letter(0)

    def to_json(self) -> dict[str, object]:
        """As Grafana has it."""
        return {
            "refId": self.ref_id,
            "datasource": _LEDGER,
            "editorMode": "code",
            "format": "table",
            "rawQuery": True,
            "rawSql": self.sql,
        }


def page() -> Page:
    """The dashboard. Its first variable chooses the Prometheus that the links lead on with, its second the ledger."""
    return Page(
        uid=RUNS,
        title="Runs",
        description="Every run of the ledger, one row each. It takes a ledger in PostgreSQL.",
        since="7d",
        refresh="1m",
        variables=[_ledger(), _jobs()],
        links=[link("Fleet", FLEET, "Every job at a glance.", variables=False)],
        layout=[Row(24, ((24, _runs()),))],
    )


def _ledger() -> dashboard.DatasourceVariable:
    variable = dashboard.DatasourceVariable("ledger").label("Ledger").type(_PLUGIN)
    return variable.description("The PostgreSQL database that BATCHGAUGE_LEDGER names.")


def _jobs() -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable("job").label("Job").description("The jobs to show, by default all.")
    variable.query(JOBS).definition(JOBS).datasource(_LEDGER).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable.multi(True).include_all(True)
    return variable.current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))


def _runs() -> Panel:
    built = table.Panel().sort_by([common.TableSortByFieldState().display_name("Started").desc(True)]).build()
    built.title = "What ran?"
    built.description = (
        f"The latest {_MOST_RUNS:,} runs that started in the time range, missed and skipped ones too. Accuracy and recall are "
        "those of the worst holdout. A job's name leads to its figures at the time of the run."
    )
    built.datasource = _LEDGER
    built.targets = [_Query(SQL)]
    source = built.field_config or models.FieldConfigSource()
    source.overrides = _overrides()
    built.field_config = source
    return built


def _overrides() -> list[Override]:
    colours = {
        outcome: models.ValueMappingResult(text=outcome, color=colour, index=index)
        for index, (outcome, colour) in enumerate(STATE_COLOURS.items())
    }
    some = models.ThresholdsConfig(
        mode=models.ThresholdsMode.ABSOLUTE,
        steps=[models.Threshold(value=None, color="transparent"), models.Threshold(value=1, color=ORANGE)],
    )
    coloured = {"custom.displayMode": "color-background-solid"}
    properties: dict[str, dict[str, object]] = {
        "Job": {"links": [{"title": "Batch run", "url": _TO_RUN, "targetBlank": False}], "custom.filterable": True},
        "Outcome": {"mappings": [models.ValueMap(options=colours)], "custom.filterable": True} | coloured,
        "Took": {"unit": "s"},
        "Rows": {"unit": "short"},
        "Rejected": {"unit": "short", "thresholds": some} | coloured,
        "Rows a second": {"unit": "rowsps"},
        **{name: {"unit": "percentunit", "decimals": 1} for name in ("Accuracy", "Recall")},
        **{name: {"custom.hidden": True} for name in ("From", "To")},
    }
    return [override("byName", name, found) for name, found in properties.items()]
