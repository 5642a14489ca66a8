"""The dashboards as they are written: what any Grafana from 9.4 on can show, one look, and PromQL that merges nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import promql_parser
import pytest

from dashboards import build, panels, queries
from dashboards.grafana import interpolate
from dashboards.page import Page, Row
from dashboards.sdk import models, register_default_plugins
from monitoring.names import TABLE
from tests.test_grafana import NASTY

# Those that ask a Prometheus; the other has a file of its own.
DASHBOARDS = {file.name: json.loads(text) for file, text in build.generated().items() if file.parent == build.FOLDER}
UIDS = {one["uid"] for one in DASHBOARDS.values()}

# In Grafana 9.4 and in 13.
PANEL_TYPES = {"stat", "table", "timeseries", "state-timeline", "heatmap", "bargauge", "row"}
UNITS = {"none", "short", "s", "percent", "percentunit", "bytes", "rowsps", "dateTimeFromNow", "string"}
BUILTIN = {"__range": "1h", "__interval": "1m", "__rate_interval": "5m"}
# Benign names: the parser takes a backslash between backticks for an escape, which Prometheus does not.
CHOSEN = {"job": "tiny", "holdout": ("a", "b"), "dimension": "side"}

Panel = dict[str, Any]


class Asked(NamedTuple):
    """A query, and where it is."""

    where: str
    expression: str

    def parsed(self) -> promql_parser.Expr:
        """The expression with its variables put in."""
        return promql_parser.parse(interpolate(self.expression, {**CHOSEN, **BUILTIN}))


def all_panels() -> list[Panel]:
    return [panel for one in DASHBOARDS.values() for panel in one["panels"] if panel["type"] != "row"]


def all_variables() -> list[dict[str, Any]]:
    return [variable for one in DASHBOARDS.values() for variable in one["templating"]["list"]]


def asked() -> list[Asked]:
    """Every query: of panels, variables and marks."""
    found = []
    for name, one in DASHBOARDS.items():
        for panel in one["panels"]:
            found += [
                Asked(f"{name}: {panel['title']} {target['refId']}", target["expr"]) for target in panel.get("targets", [])
            ]
        for variable in one["templating"]["list"]:
            if match := re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]):
                found.append(Asked(f"{name}: ${variable['name']}", match[1]))
        found += [Asked(f"{name}: mark {mark['name']}", mark["expr"]) for mark in one["annotations"]["list"]]
    return found


ASKED = asked()
PANEL_QUERIES = [one for one in ASKED if ": $" not in one.where and ": mark " not in one.where]


def nodes(expression: Any, *above: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every node of an expression, with those above it, the nearest last."""
    yield expression, above
    below = (*above, expression)
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        if (child := getattr(expression, name, None)) is not None and not isinstance(child, str):
            yield from nodes(child, *below)
    for child in getattr(expression, "args", []):
        yield from nodes(child, *below)


def test_the_files_are_what_the_code_makes() -> None:
    """If not: python -m dashboards.build."""
    assert build.main(["--diff"]) == 0, f"write them again with: {build.COMMAND}"


def test_diff_names_what_differs_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    assert build.main([]) == 0
    assert build.main(["--diff"]) == 0
    capsys.readouterr()
    (tmp_path / "fleet.json").write_text((tmp_path / "fleet.json").read_text().replace("Fleet", "Sheep"))
    (tmp_path / "batch_run.json").unlink()
    (tmp_path / "old.json").write_text("{}")
    assert build.main(["--diff"]) == 1
    said = capsys.readouterr().out
    assert '-  "title": "Sheep",' in said
    assert "batch_run.json is not what the code makes" in said
    assert "old.json is made by nothing: delete it" in said
    assert "python -m dashboards.build" in said


def test_without_the_sdk_it_says_how_to_get_it() -> None:
    """It is for developers, and not among what a user has."""
    code = "import sys; sys.modules['grafana_foundation_sdk'] = None; from dashboards.build import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=build.FOLDER.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "making dashboards takes grafana-foundation-sdk: pip install 'batchgauge[dev]'\n"


@pytest.mark.parametrize("arguments", [["--diff", "--check", "http://127.0.0.1:9"], ["--job", "tiny"], ["--what"]])
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        build.main(arguments)
    assert error.value.code == 2


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_sdk_reads_back_what_it_wrote(name: str) -> None:
    """A key that is misspelt, or that Grafana's model doesn't have, would be lost on the way."""
    register_default_plugins()
    text = json.dumps(DASHBOARDS[name], indent=2, ensure_ascii=False) + "\n"
    assert build.encoded(models.Dashboard.from_json(json.loads(text))) == text


def test_every_grafana_from_9_4_on_can_show_them() -> None:
    """Panel types of old and new, 9.4's schema, and 9.4's word for a coloured cell, which newer ones translate."""
    for name, one in DASHBOARDS.items():
        assert {panel["type"] for panel in one["panels"]} <= PANEL_TYPES, name
        assert one["schemaVersion"] == 37
        assert "inControlsMenu" not in json.dumps(one)
        assert "cellOptions" not in json.dumps(one)
    assert "color-background-solid" in json.dumps(DASHBOARDS["fleet.json"])


@pytest.mark.parametrize("one", DASHBOARDS.values(), ids=DASHBOARDS)
def test_panels_are_numbered_and_fill_the_grid(one: dict[str, Any]) -> None:
    """Ids are unique; each row of the grid is 24 wide without a gap, and none lies on another."""
    placed = one["panels"]
    assert [panel["id"] for panel in placed] == list(range(1, len(placed) + 1))
    top = 0
    for place in sorted({panel["gridPos"]["y"] for panel in placed}):
        row = [panel["gridPos"] for panel in placed if panel["gridPos"]["y"] == place]
        assert place == top
        assert [spot["x"] for spot in row] == [sum(spot["w"] for spot in row[:index]) for index in range(len(row))]
        assert sum(spot["w"] for spot in row) == 24
        assert len({spot["h"] for spot in row}) == 1
        top += row[0]["h"]


def test_a_row_of_another_width_is_refused() -> None:
    panel = panels.stat_panel("Too narrow", "", panels.latest("1", ""), look=panels.PERCENT)
    row = Row(4, ((12, panel),))
    page = Page(uid="x", title="x", description="", since="1h", refresh="1m", variables=[], links=[], layout=[row])
    with pytest.raises(ValueError, match="Too narrow is 12 columns wide; it must be 24"):
        page.build()


def test_ids_and_variables_are_those_that_others_link_to() -> None:
    """Alerts and the scheduler lead to these."""
    assert sorted(UIDS) == ["batchgauge-fleet", "batchgauge-quality", "batchgauge-run"]
    names = {one["uid"]: [variable["name"] for variable in one["templating"]["list"]] for one in DASHBOARDS.values()}
    assert names == {
        "batchgauge-fleet": ["datasource", "job"],
        "batchgauge-run": ["datasource", "job"],
        "batchgauge-quality": ["datasource", "job", "holdout", "dimension"],
    }


# The rules of https://github.com/grafana/dashboard-linter. Left out, each with its reason:
#   template-instance-rule, target-instance-rule: a pushed sample has no instance; a job is no process that is scraped.
#   target-logql-rule, target-logql-auto-rule: there are no logs.
#   target-job-rule, for `up`, `cpu_usage`, node_exporter and BatchGatewayDown: gateways and hosts are no job's.
#   the literal `$job` in target-job-rule and `.+` in template-job-rule: see `queries.JOB` and `page._ALL`.
#   panel-units-rule's list of units, which lacks rowsps.


def test_linter_template_datasource_and_panel_datasource() -> None:
    for one in DASHBOARDS.values():
        (datasource,) = [variable for variable in one["templating"]["list"] if variable["type"] == "datasource"]
        assert (datasource["name"], datasource["label"], datasource["query"]) == ("datasource", "Data source", "prometheus")
        marks = one["annotations"]["list"]
        lists = [variable for variable in one["templating"]["list"] if variable["type"] == "query"]
        shown = [panel for panel in one["panels"] if panel["type"] != "row"]
        targets = [target for panel in shown for target in panel["targets"]]
        for user in (*marks, *lists, *shown, *targets):
            assert user["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_linter_template_job() -> None:
    """The fleet takes many jobs; the other two are about one: a heatmap or a band of several would say nothing."""
    for one in DASHBOARDS.values():
        (job,) = [variable for variable in one["templating"]["list"] if variable["name"] == "job"]
        many = one["uid"] == "batchgauge-fleet"
        assert (job["type"], job["label"], job["multi"], job["includeAll"]) == ("query", "Job", many, many)


def test_linter_template_on_time_change_reload_and_all_value() -> None:
    for variable in all_variables():
        if variable["type"] == "query":
            assert variable["refresh"] == 2
            assert variable.get("allValue") == ("(?s:.+)" if variable["includeAll"] else None)


def test_linter_panel_title_description_and_no_targets() -> None:
    for panel in all_panels():
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGHIJKLMNOP"[: len(panel["targets"])])


def test_linter_panel_units() -> None:
    for panel in all_panels():
        unit = panel["fieldConfig"]["defaults"]["unit"]
        overridden = [
            each["value"] for one in panel["fieldConfig"]["overrides"] for each in one["properties"] if each["id"] == "unit"
        ]
        assert {unit, *overridden} <= UNITS, panel["title"]


def test_linter_uneditable() -> None:
    assert not any(one["editable"] for one in DASHBOARDS.values())


@pytest.mark.parametrize("one", PANEL_QUERIES, ids=lambda one: one.where)
def test_linter_target_job(one: Asked) -> None:
    """Every selector of a job's metric is narrowed to the chosen jobs."""
    for node, _ in nodes(one.parsed()):
        if isinstance(node, promql_parser.VectorSelector) and node.name not in {"up", "cpu_usage", "node_cpu_seconds_total"}:
            matchers = {matcher.name: matcher for matcher in node.matchers.matchers}
            gateway = matchers.get("alertname")
            assert "job" in matchers or (gateway and gateway.value == "BatchGatewayDown"), node
            assert "job" not in matchers or matchers["job"].op == promql_parser.MatchOp.Re


@pytest.mark.parametrize("one", ASKED, ids=lambda one: one.where)
def test_linter_target_rate_interval_and_counter_agg(one: Asked) -> None:
    """rate() has Grafana's window; a counter is shown as a rate or an increase only."""
    for node, above in nodes(one.parsed()):
        if isinstance(node, promql_parser.Call) and node.func.name in {"rate", "irate"}:
            assert "[5m]" in node.prettify()
        if isinstance(node, promql_parser.VectorSelector) and str(node.name).endswith(("_total", "_bucket")):
            assert isinstance(above[-2], promql_parser.Call)
            assert above[-2].func.name in {"rate", "increase"}


@pytest.mark.parametrize("one", ASKED, ids=lambda one: one.where)
def test_every_metric_exists(one: Asked) -> None:
    """Of the metric table, or of a server."""
    known = {metric.name for metric in TABLE} | {f"{metric.name}_bucket" for metric in TABLE if metric.kind == "histogram"}
    used = {node.name for node, _ in nodes(one.parsed()) if isinstance(node, promql_parser.VectorSelector)}
    assert used
    assert used <= known | {queries.UP, queries.ALERTS, queries.CPU_USAGE, queries.NODE_CPU}


@pytest.mark.parametrize(
    "one", [*ASKED, *(Asked(one.question, one.expression) for one in queries.QUERIES)], ids=lambda one: one.where
)
def test_two_environments_of_a_job_stay_two(one: Asked) -> None:
    """Nothing is grouped by job or matched on it: labels that a job is pushed with would be merged, or clash."""
    for node, _ in nodes(one.parsed()):
        if isinstance(node, promql_parser.AggregateExpr) and isinstance(node.modifier, promql_parser.AggModifier):
            grouping = node.modifier
            assert grouping.type == promql_parser.AggModifierType.Without or grouping.labels in (["le"], ["outcome"])
        if isinstance(node, promql_parser.BinaryExpr) and isinstance(node.modifier, promql_parser.BinModifier):
            matching = node.modifier.matching
            assert matching is None or matching.type == promql_parser.LabelModifierType.Exclude


def test_a_chosen_name_is_put_between_backticks() -> None:
    """There a backslash is a backslash, so what Grafana escapes as a regular expression is one."""
    for one in ASKED:
        for found in re.finditer(r"\$\{\w+:regex\}", one.expression):
            assert one.expression[found.start() - 3 : found.start()] == "=~`", one.where
            assert one.expression[found.end()] == "`", one.where
        assert '"$' not in one.expression, one.where


def test_the_same_state_has_the_same_colour_everywhere() -> None:
    """Green is success, orange partial, red failed, blue running, grey idle."""
    colours = {
        "idle": "#8e8e8e",
        "running": "blue",
        "success": "green",
        "partial": "orange",
        "failed": "red",
        "skipped": "purple",
    }
    seen: dict[str, set[str]] = {}
    for found in find_all(list(DASHBOARDS.values()), "options"):
        if isinstance(found, dict):
            for result in found.values():
                if isinstance(result, dict) and result.get("text") in colours:
                    seen.setdefault(result["text"], set()).add(result["color"])
    for panel in all_panels():
        for one in panel["fieldConfig"]["overrides"]:
            for each in one["properties"]:
                if one["matcher"]["options"] in colours and each["id"] == "color":
                    seen.setdefault(one["matcher"]["options"], set()).add(each["value"]["fixedColor"])
    assert seen == {state: {colour} for state, colour in colours.items()}


def find_all(value: Any, key: str) -> Iterator[Any]:
    """Everything that lies under a key, however deep."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == key:
                yield item
            yield from find_all(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from find_all(item, key)


def test_links_lead_to_our_dashboards_and_keep_what_was_chosen() -> None:
    """Names of any characters come through; the time range goes along."""
    chosen = {
        "datasource": "prometheus",
        "__value.raw": NASTY,
        "__data.fields.Job": NASTY,
        "__url_time_range": "from=now-7d&to=now",
    }
    cells = [link["url"] for links in find_all(DASHBOARDS["fleet.json"], "value") if isinstance(links, list) for link in links
             if isinstance(link, dict) and "url" in link]  # fmt: skip
    assert len(cells) == 4
    for url in cells:
        path, query = (parts := urlsplit(interpolate(url, chosen))).path, parse_qs(parts.query)
        assert path.removeprefix("/d/") in UIDS
        assert query == {"var-job": [NASTY], "var-datasource": ["prometheus"], "from": ["now-7d"], "to": ["now"]}
    for name, one in DASHBOARDS.items():
        others = {urlsplit(link["url"]).path.removeprefix("/d/"): link for link in one["links"]}
        assert set(others) == UIDS - {one["uid"]}, name
        for uid, link in others.items():
            assert link["keepTime"]
            # One job is handed on to one job; the fleet's many are not, and the fleet shows all again.
            assert link["includeVars"] == ("batchgauge-fleet" not in {one["uid"], uid})
            assert link["includeVars"] or "${datasource:queryparam}" in link["url"]


def test_a_band_is_filled_down_to_a_series_that_is_there() -> None:
    """Grafana names the series to fill to; a name that is not there fills nothing, and says nothing."""
    bands = 0
    for panel in all_panels():
        legends = {target["legendFormat"] for target in panel["targets"]}
        for each in (each for one in panel["fieldConfig"]["overrides"] for each in one["properties"]):
            if each["id"] == "custom.fillBelowTo":
                bands += 1
                assert each["value"] in legends
    assert bands == 2


def test_what_a_look_is_for_exists() -> None:
    """An override by query or by column names one that the panel has."""
    for panel in all_panels():
        letters = {target["refId"] for target in panel["targets"]}
        renamed = {
            new for change in panel.get("transformations", []) for new in change["options"].get("renameByName", {}).values()
        }
        for one in panel["fieldConfig"]["overrides"]:
            if one["matcher"]["id"] == "byFrameRefID":
                assert one["matcher"]["options"] in letters, panel["title"]
            elif panel["type"] == "table":
                assert one["matcher"]["options"] in renamed, panel["title"]


def test_a_logarithmic_axis_does_not_begin_at_zero() -> None:
    """It has none: Grafana would draw nothing."""
    scales = {
        panel["title"]: panel["fieldConfig"]["defaults"].get("min")
        for panel in all_panels()
        if panel["fieldConfig"]["defaults"].get("custom", {}).get("scaleDistribution", {}).get("type") == "log"
    }
    assert scales == {"How long did runs take?": None, "How long do batches take?": None}
