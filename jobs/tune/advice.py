"""From measurements to advice: what to write into the job file, and why. Every word follows from a figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

from jobs.summary import seconds
from jobs.tune import findings
from jobs.tune.request import Limit, TuneResult
from jobs.tune.words import HARDLY, count, in_words, limit_in_words, limit_seconds, per_row, ratio, times
from pipelines.measuring import Configuration, fastest
from pipelines.report import Stage

_ROOM = 2.0
"""So many times below the limit is well below it."""
_TRIES = 30
"""So many tries, of what is set now, are time enough for a session."""
_WORTH_SECONDS = 1.0
"""A change that saves less of a run is not worth it."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do: settings to change, by section and key (none: nothing), and sentences, the verdict first."""

    settings: dict[str, dict[str, Any]]
    sentences: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """The settings as lines of a job file."""
        found: list[str] = []
        for section, values in self.settings.items():
            found.append(f"[{section}]")
            found += [f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in values.items()]
        return tuple(found)


def advise(result: TuneResult) -> Advice:
    """The advice that these measurements support."""
    change = _change_is_due(result)
    sentences = (
        *(_reasons_to_change(result) if change else _reasons_to_stay(result)),
        *_latency(result),
        *findings.time(result),
        *findings.batches(result),
        *findings.workers(result),
        *findings.devices(result),
    )
    return Advice(_settings(result.current, result.chosen) if change else {}, sentences)


def _change_is_due(result: TuneResult) -> bool:
    comparison = result.comparison
    if comparison is None:
        return False
    return _mends_latency(result) or (comparison.surely_faster and not _saves_little(result) and not _breaks_latency(result))


def _saved_seconds(result: TuneResult) -> float:
    """What the change would save of preparing and inferring all the rows that there are."""
    assert result.comparison is not None  # there is a change to speak of
    return result.rows.rows / result.of(result.current).rows_per_second * (1 - 1 / result.comparison.ratio)


def _saves_little(result: TuneResult) -> bool:
    """Not said of a holdout's rows: the input may have any number."""
    return result.rows.holdout is None and _saved_seconds(result) < _WORTH_SECONDS


def _breaks_latency(result: TuneResult) -> bool:
    return not result.of(result.chosen).within(limit_seconds(result.limit))


def _mends_latency(result: TuneResult) -> bool:
    limit = limit_seconds(result.limit)
    return not result.of(result.current).within(limit) and result.of(result.chosen).within(limit)


def _settings(current: Configuration, chosen: Configuration) -> dict[str, dict[str, Any]]:
    batch = {
        key: value for key, value in (("rows", chosen.rows), ("workers", chosen.workers)) if value != getattr(current, key)
    }
    device = {"device": chosen.device.split(":")[0]} if chosen.device != current.device else {}
    return {section: values for section, values in (("model", device), ("batch", batch)) if values}


def _reasons_to_change(result: TuneResult) -> Iterator[str]:
    comparison, chosen, current = result.comparison, result.chosen, result.current
    assert comparison is not None  # or no change would be due
    low, high = comparison.interval
    compared = count(len(comparison.ratios), "comparison")
    lies = f"{times(low)} to {times(high)} in {compared}"
    measured = lies if comparison.settles else f"in {compared}: too few to be sure"
    what = in_words(chosen, current)
    if _mends_latency(result) and result.limit is not None:
        now, then = result.of(current).batch_seconds[1], result.of(chosen).batch_seconds[1]
        yield (
            f"Change to {what}: 95 % of batches take up to {seconds(then)} then, and up to {seconds(now)} now, which is above "
            f"the {limit_in_words(result.limit)}. Speed: {times(comparison.ratio)} times today's ({measured})."
        )
    else:
        yield (
            f"Change to {what}: preparing and inferring is {times(comparison.ratio)} times as fast as now ({measured})."
            f"{_overall(result)}"
        )
    now_row, then_row = result.of(current), result.of(chosen)
    if then_row.seconds_per_row > now_row.seconds_per_row * HARDLY:
        yield (
            f"The mean latency of a row rises all the same, from {per_row(now_row)} to {per_row(then_row)}: it is summed over "
            "workers, who share the machine. More rows are done in a second."
        )
    if chosen.device != current.device:
        yield "On another device, scores may differ in their last digits."


def _overall(result: TuneResult) -> str:
    """What that makes of the whole job, where only the batches change: what else takes time stays as it is."""
    whole, comparison = result.whole, result.comparison
    if whole is None or comparison is None or result.chosen.workers != result.current.workers:
        return ""
    faster = whole.share(Stage.PREPARE) + whole.share(Stage.INFER)
    return f" The whole job gets about ×{1 - faster + faster * comparison.ratio:.2f} as fast."


def _reasons_to_stay(result: TuneResult) -> Iterator[str]:
    comparison, set_now = result.comparison, _set_now(result)
    if result.slow_seconds is not None:
        yield (
            f"Nothing can be said: trying {set_now} once took {seconds(result.slow_seconds)}, and left no time to try anything "
            f"else; give about --time {ceil(_TRIES * result.slow_seconds)}s."
        )
    elif not result.of(result.chosen).within(limit_seconds(result.limit)):
        yield _out_of_reach(result)
    elif comparison is None:
        spread = result.of(result.current).spread
        noise = "" if spread is None else f" (its rounds differ by ±{spread:.0%})"
        yield f"Nothing to change: {set_now} is the fastest of what was measured{noise}."
    elif comparison.surely_faster:
        yield (
            f"Nothing worth a change: {in_words(result.chosen, result.current)} is {times(comparison.ratio)} times as fast as "
            f"{set_now}, and that saves {seconds(_saved_seconds(result))} of these {count(result.rows.rows, 'row')}."
        )
    elif comparison.interval[0] > 1 and comparison.ratio > HARDLY:
        yield (
            f"Not sure yet: {in_words(result.chosen, result.current)} looks {times(comparison.ratio)} times as fast as "
            f"{set_now}, but that is {count(len(comparison.ratios), 'comparison')} only; give more --time."
        )
    else:
        yield (
            f"Nothing to change: {set_now} is as fast as the fastest within noise ({in_words(result.chosen, result.current)}: "
            f"×{comparison.ratio:.2f} ± {comparison.noise:.0%} in {count(len(comparison.ratios), 'comparison')})."
        )


def _out_of_reach(result: TuneResult) -> str:
    smallest = min(result.measurements, key=lambda one: (one.configuration.rows, one.batch_seconds[1]))
    return (
        f"Nothing to set that would help: nothing that was measured keeps the {limit_in_words(result.limit)}. Even of batches "
        f"of {smallest.configuration.rows:,}, 95 % take up to {seconds(smallest.batch_seconds[1])}. "
        "That takes a faster device, a smaller model, or another limit."
    )


def _set_now(result: TuneResult) -> str:
    auto = [name for name, is_auto in (("rows", result.auto_rows), ("workers", result.auto_workers)) if is_auto]
    current = f"{count(result.current.workers, 'worker')} with batches of {result.current.rows:,}"
    if result.current.rows == result.rows.most_rows:
        current += ", all that a part has"
    return f"what auto chooses ({current})" if len(auto) == 2 else f"what is set ({current})"  # noqa: PLR2004  both


def _latency(result: TuneResult) -> Iterator[str]:
    limit, current = result.limit, result.of(result.current)
    if limit is None:
        yield "No limit on latency was given (--latency, or thresholds.latency_seconds): one batch may take any time."
        return
    p95 = current.batch_seconds[1]
    if p95 * _ROOM <= limit.seconds:
        yield (
            f"Latency as it is set now: {per_row(current)} a row, 95 % of batches up to {seconds(p95)}; the "
            f"{limit_in_words(limit)} is {limit.seconds / p95:,.0f} times that. "
            "If an alert says otherwise, the run's host is busier, or its rows differ."
        )
    yield from _without_limit(result, limit)


def _without_limit(result: TuneResult, limit: Limit) -> Iterator[str]:
    free, chosen = fastest(result.measurements, None), result.of(result.chosen)
    gain = free.rows_per_second / chosen.rows_per_second
    if not free.within(limit.seconds) and chosen.within(limit.seconds) and gain > HARDLY and ratio(free, chosen):
        yield (
            f"The limit costs speed: {in_words(free.configuration, result.chosen)} would be about {gain:.1f} times as fast, "
            f"but 95 % of batches would take up to {seconds(free.batch_seconds[1])}."
        )
