"""Dashboards without Grafana: every query of every panel, asked of a Prometheus as Grafana would ask it.

A dashboard is opened as a person opens it: with all of what can be chosen, but one job where it takes one, over its own
time range. A panel is empty when none of its queries has a number, and it has no words for that (such as "never").
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from dashboards.grafana import ALL, Chosen, interpolate

POINTS = 200
"""Points on a graph: about what a screen gives it."""

_TIMEOUT_SECONDS = 60.0
_SHORTEST_STEP, _SCRAPE_INTERVAL = 15, 30
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# `.` is not a newline there, as in Grafana: a name with a newline leaves a list empty, and All is all that can be chosen.
_LABEL_VALUES = re.compile(r"label_values\((?:(.+),\s*)?([a-zA-Z_]\w*)\)\s*")
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")

Dashboard = Mapping[str, Any]


class CheckFailed(Exception):  # noqa: N818  it says what happened
    """Prometheus could not be asked, or refused a query."""


class Series(NamedTuple):
    """One series of an answer: its labels, and its last number."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query of a panel gave. `chosen` are the variables' values; NaN is no value.

    `missing` is what the panel says where there is no value, if it says anything.
    """

    dashboard: str
    panel: str
    chosen: Mapping[str, Chosen]
    query: str
    legend: str
    expression: str
    series: tuple[Series, ...]
    missing: str | None = None


class Source:
    """A Prometheus at its base URL. Every method raises `CheckFailed`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def label_values(self, label: str, selector: str | None) -> tuple[str, ...]:
        """The values of a label, sorted; of the selected series only, if `selector` is given."""
        values: list[str] = self._get(f"label/{label}/values", {"match[]": selector} if selector else {})
        return tuple(sorted(values))

    def instant(self, expression: str, *, at: float) -> tuple[Series, ...]:
        """The series that have a number at a Unix time."""
        found = self._vector("query", query=expression, time=at)
        return _numbers((one["metric"], [one["value"]]) for one in found)

    def ranged(self, expression: str, *, start: float, end: float, step: float) -> tuple[Series, ...]:
        """The series that have a number between two Unix times, with the last of them."""
        found = self._vector("query_range", query=expression, start=start, end=end, step=step)
        return _numbers((one["metric"], one["values"]) for one in found)

    def _vector(self, path: str, **asked: str | float) -> list[dict[str, Any]]:
        data = self._get(path, asked)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        result: list[dict[str, Any]] = data["result"]
        return result

    def _get(self, path: str, asked: Mapping[str, str | float]) -> Any:
        try:
            answer = self._client.get(f"{self._url}/api/v1/{path}", params=dict(asked))
            content = answer.json()
            if content["status"] == "success":
                return content["data"]
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CheckFailed(f"{self._url}: {str(error) or type(error).__name__}; is it a Prometheus that is up?") from error
        except (json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError) as error:
            raise CheckFailed(f"{self._url} does not answer as a Prometheus does; give its base URL") from error
        raise CheckFailed(f"{self._url} refused {json.dumps(asked, ensure_ascii=False)}: {content.get('error')}")


def answers(dashboards: Iterable[Dashboard], source: Source, jobs: Sequence[str] = ()) -> list[Answer]:
    """What every query of the dashboards gives, for each of the jobs (by default the first that a dashboard lists).

    A dashboard that takes many jobs is asked once, of all. One that does not list a job (such as that of a model that
    was never judged) is left out for it. Raises `CheckFailed` also when no dashboard lists a job.
    """
    now = time.time()
    found: list[Answer] = []
    listed: set[str] = set()
    for dashboard in dashboards:
        known = options(dashboard, "job", source, {})
        listed.update(known)
        wanted = [ALL] if _takes_many(dashboard, "job") else [job for job in jobs or known[:1] if job in known]
        for job in wanted:
            found += opened(dashboard, source, {"job": job}, now=now)
    if unknown := [job for job in jobs if job not in listed]:
        raise CheckFailed(
            f"no job {', '.join(map(repr, unknown))} in that Prometheus; it has {', '.join(sorted(listed)) or 'none'}"
        )
    return found


def opened(dashboard: Dashboard, source: Source, chosen: Mapping[str, Chosen], *, now: float) -> list[Answer]:
    """What one dashboard's queries give with these choices, and with all of what is not chosen."""
    everything: dict[str, Chosen] = {name: ALL for name in _variables(dashboard) if name != "datasource"}
    selection = everything | {"datasource": "prometheus"} | dict(chosen)
    found: list[Answer] = []
    for panel, repeated in panels(dashboard):
        for value in _repetitions(dashboard, repeated, source, selection):
            found += _panel_answers(dashboard, panel, source, selection | value, now)
    marks(dashboard, source, chosen, now=now)  # a mark needn't be there, but Prometheus must understand it
    return found


def marks(dashboard: Dashboard, source: Source, chosen: Mapping[str, Chosen], *, now: float) -> list[Answer]:
    """What the queries of a dashboard's marks give over its time range."""
    found = []
    for mark in dashboard["annotations"].get("list", []):
        expression, series = _evaluated(dashboard, mark | {"range": True}, source, chosen, now, interval=None)
        found.append(Answer(dashboard["title"], mark["name"], chosen, "mark", mark["titleFormat"], expression, series))
    return found


def options(dashboard: Dashboard, variable: str, source: Source, chosen: Mapping[str, Chosen]) -> tuple[str, ...]:
    """What a variable's list holds. Empty also where a chosen name has a newline (Grafana can't read its query then)."""
    text = interpolate(_variables(dashboard)[variable]["query"], chosen, all_values=_all_values(dashboard))
    match = _LABEL_VALUES.fullmatch(text)
    return source.label_values(match[2], match[1]) if match else ()


def panels(dashboard: Dashboard) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Each panel, with the variable that it is repeated for."""
    repeated = None
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            repeated = panel.get("repeat")
        else:
            yield panel, repeated


def empty_panels(found: Iterable[Answer]) -> list[str]:
    """The panels that show nothing, each with its dashboard and choices."""
    filled: dict[str, bool] = {}
    for one in found:
        name = f"{one.dashboard}: {one.panel} ({_choices(one.chosen)})"
        filled[name] = filled.get(name, False) or bool(one.series or one.missing)
    return [name for name, says_something in filled.items() if not says_something]


def report(found: Sequence[Answer]) -> str:
    """A table: each panel, and its values in short."""
    lines = []
    opening = ""
    for one in found:
        heading = f"{one.dashboard} ({_choices(one.chosen)})"
        if heading != opening:
            lines += ["", heading]
            opening = heading
        lines.append(f"  {one.panel:<40.40}  {one.query}  {_in_short(one)}")
    empty = empty_panels(found)
    lines += ["", *(f"empty: {name}" for name in empty)]
    return "\n".join([*lines[1:], "no panel is empty" if not empty else f"{len(empty)} empty", ""])


def _panel_answers(
    dashboard: Dashboard, panel: Mapping[str, Any], source: Source, chosen: Mapping[str, Chosen], now: float
) -> Iterator[Answer]:
    title = interpolate(panel["title"], chosen, all_values=_all_values(dashboard))
    for target in panel["targets"]:
        expression, series = _evaluated(dashboard, target, source, chosen, now, interval=panel.get("interval"))
        legend, missing = target.get("legendFormat", ""), panel["fieldConfig"]["defaults"].get("noValue")
        yield Answer(dashboard["title"], title, chosen, target["refId"], legend, expression, series, missing)


def _evaluated(
    dashboard: Dashboard,
    target: Mapping[str, Any],
    source: Source,
    chosen: Mapping[str, Chosen],
    now: float,
    *,
    interval: str | None,
) -> tuple[str, tuple[Series, ...]]:
    """A query as it is asked, and what it gives."""
    window = _seconds(dashboard["time"]["from"].removeprefix("now-"))
    step = max(window // POINTS, _SHORTEST_STEP, _seconds(interval) if interval else 0)
    builtin = {
        "__range": f"{window}s",
        "__interval": f"{step}s",
        "__rate_interval": f"{max(step + _SCRAPE_INTERVAL, 4 * _SCRAPE_INTERVAL)}s",
    }
    expression = interpolate(target["expr"], {**chosen, **builtin}, all_values=_all_values(dashboard))
    if target.get("range"):
        start = now - window // step * step  # so that the last point is now
        return expression, source.ranged(expression, start=start, end=now, step=step)
    return expression, source.instant(expression, at=now)


def _repetitions(
    dashboard: Dashboard, variable: str | None, source: Source, chosen: Mapping[str, Chosen]
) -> list[dict[str, Chosen]]:
    if variable is None:
        return [{}]
    value = chosen[variable]
    values = options(dashboard, variable, source, chosen) if value == ALL else [value] if isinstance(value, str) else value
    return [{variable: one} for one in values] or [{}]


def _variables(dashboard: Dashboard) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def _all_values(dashboard: Dashboard) -> dict[str, str]:
    return {name: one["allValue"] for name, one in _variables(dashboard).items() if one.get("allValue")}


def _takes_many(dashboard: Dashboard, variable: str) -> bool:
    return bool(_variables(dashboard)[variable].get("multi"))


def _numbers(found: Iterable[tuple[dict[str, str], Sequence[Sequence[Any]]]]) -> tuple[Series, ...]:
    series = []
    for labels, points in found:
        numbers = [number for _, text in points if not math.isnan(number := float(text))]
        if numbers:
            series.append(Series(labels, numbers[-1]))
    return tuple(series)


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def _choices(chosen: Mapping[str, Chosen]) -> str:
    shown = {name: "all" if value == ALL else value for name, value in chosen.items() if name != "datasource"}
    return ", ".join(
        f"{name} {_printable(value if isinstance(value, str) else ', '.join(value))}" for name, value in shown.items()
    )


_SHOWN = 3


def _in_short(answer: Answer) -> str:
    if not answer.series:
        return answer.missing or "–"
    named = [f"{_name(answer.legend, one.labels)} {one.value:.6g}".strip() for one in answer.series[:_SHOWN]]
    more = len(answer.series) - len(named)
    return _printable("; ".join(named)) + (f"; and {more} more" if more else "")


def _name(legend: str, labels: Mapping[str, str]) -> str:
    return " ".join(_LEGEND.sub(lambda match: labels.get(match[1], ""), legend).split())


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
