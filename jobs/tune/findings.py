"""What the figures say beside the verdict: where the time goes, and what batches, workers and devices make of it."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.summary import seconds
from jobs.tune.request import TuneResult
from jobs.tune.words import HARDLY, count, limit_seconds, listed, ratio, split
from pipelines.measuring import SIZES, Configuration, Measurement, WholeParts
from pipelines.report import Stage
from pipelines.tuning import WORTH_WHILE

_MUCH = 0.3
"""From this share of a part's time on, a stage is worth a sentence of its own."""
_LONG_SECONDS = 1.0
"""A part that takes less is not worth cutting into more parts."""


def time(result: TuneResult) -> Iterator[str]:
    """Where the time of a whole part goes, and about each stage that takes much of it what the figures say."""
    whole = result.whole
    if whole is None:
        return
    shares = ", ".join(f"{stage} {whole.share(stage):.0%}" for stage in whole.stage_seconds)
    yield (
        f"Where the time of {count(whole.parts, 'whole part')} goes ({count(whole.rows, 'row')}, "
        f"{seconds(whole.elapsed_seconds)}, read from the page cache, written to {result.scratch}): {shares}."
    )
    share, most = whole.share(Stage.INFER), _limit_of(result, Stage.INFER)
    if share < _MUCH:
        yield (
            f"Inference is only {share:.0%} of it: larger batches or a faster device can't make the job more than "
            f"{most} times as fast."
        )
    else:
        yield f"Inference is {share:.0%} of it: a device of any speed can't make the job more than {most} times as fast."
    for stage, says in ((Stage.READ, _reading), (Stage.PREPARE, _preparing), (Stage.WRITE, _writing)):
        if whole.share(stage) >= _MUCH:
            yield says(result, whole)


def _preparing(result: TuneResult, whole: WholeParts) -> str:
    return (
        f"Preparing is {whole.share(Stage.PREPARE):.0%}: features are cast and checked (or 'collate' works). If they are "
        f"stored as {result.dtype} that is less; without it, the job would be ×{_limit_of(result, Stage.PREPARE)} as fast."
    )


def _writing(result: TuneResult, whole: WholeParts) -> str:
    each = whole.stage_seconds[Stage.WRITE] / whole.parts
    return (
        f"Writing is {whole.share(Stage.WRITE):.0%}: {seconds(each)} for each part of "
        f"{count(whole.rows // whole.parts, 'row')}, flushed to disk. Larger parts share "
        f"that out, a faster disk shortens it; at most ×{_limit_of(result, Stage.WRITE)}."
    )


def _reading(result: TuneResult, whole: WholeParts) -> str:
    again = result.rewriting
    share = f"Reading is {whole.share(Stage.READ):.0%}"
    if again is None:
        return f"{share}: at most ×{_limit_of(result, Stage.READ)} from a faster disk or fewer feature columns."
    share_of_time = again.rewritten_seconds / again.seconds
    now = f"{count(again.row_groups, 'row group')} of {count(again.rows // again.row_groups, 'row')}, {again.compression}"
    if share_of_time > WORTH_WHILE:
        return (
            f"{share}, and it isn't the file's fault ({now}): one row group with zstd is read in {share_of_time:.0%} of the "
            "time. Fewer feature columns, narrower types or a faster disk would help."
        )
    gain = whole.times_as_fast(Stage.READ, 1 / share_of_time)
    return (
        f"{share}: the same rows as one row group with zstd are read in {share_of_time:.0%} of the time (now {now}). "
        f"Written so, the job would be about ×{gain:.2f} as fast."
    )


def _limit_of(result: TuneResult, stage: Stage) -> str:
    """How many times as fast everything could be at most, if the stage took no time."""
    assert result.whole is not None  # the caller asked
    rest = 1 - result.whole.share(stage)
    return f"{1 / rest:.2f}" if rest > 0 else "∞"


def batches(result: TuneResult) -> Iterator[str]:
    """What the size of a batch makes out, and which sizes were left out, and why."""
    chosen = result.chosen
    alike = sorted(
        (one for one in result.measurements if _same_but_rows(one.configuration, chosen)),
        key=lambda one: one.configuration.rows,
    )
    if len(alike) > 1:
        yield from _sizes(alike, result.of(chosen))
    if result.rows.most_rows < SIZES[-1]:
        most = count(result.rows.most_rows, "row")
        yield f"No part has more than {most}, and a batch never spans two: larger ones were not tried."
    yield from _left_out(result)


def _left_out(result: TuneResult) -> Iterator[str]:
    """The sizes that were tried nowhere for want of time, and those that were tried in some settings only."""
    tried = {one.configuration.rows for one in result.measurements}
    rows = {one.rows for one in result.unaffordable}
    for sizes, where in ((rows - tried, ""), (rows & tried, " in some settings")):
        if sizes:
            sizes_said = listed(sorted(sizes))
            yield f"Batches of {sizes_said} would have taken too long{where}, and were left out; more --time lets them in."


def _sizes(alike: list[Measurement], chosen: Measurement) -> Iterator[str]:
    """Measurements that differ in their rows alone, fewest first, in one sentence."""
    few, many = alike[0], alike[-1]
    speeds = [one.rows_per_second for one in alike]
    if max(speeds) / min(speeds) <= HARDLY:
        yield f"Batches: from {few.configuration.rows:,} to {many.configuration.rows:,} rows all are about as fast."
        return
    said = [(ratio(one, chosen), one.configuration.rows) for one in (few, many) if one.configuration != chosen.configuration]
    others = [f"{factor} with {rows:,}" for factor, rows in said if factor is not None]
    if others:
        yield f"Batches: against {count(chosen.configuration.rows, 'row')}, the speed is {' and '.join(others)}."


def _same_but_rows(one: Configuration, other: Configuration) -> bool:
    return (one.device, one.workers, one.kernel_threads) == (other.device, other.workers, other.kernel_threads)


def workers(result: TuneResult) -> Iterator[str]:
    """What it makes out how the cores are shared out, and whether some of them have no work."""
    by_workers: dict[int, Measurement] = {}
    for one in result.measurements:
        if one.configuration.device == result.chosen.device and one.within(limit_seconds(result.limit)):
            before = by_workers.setdefault(one.configuration.workers, one)
            by_workers[one.configuration.workers] = max(before, one, key=lambda each: each.rows_per_second)
    if len(by_workers) > 1:
        one, other = by_workers[min(by_workers)], by_workers[max(by_workers)]
        factor = ratio(other, one)
        if factor is not None:
            yield (
                f"Workers: {split(other.configuration)} do {factor} the rows of {split(one.configuration)}, "
                "each in its best batches."
            )
    yield from _more_parts(result)


def _more_parts(result: TuneResult) -> Iterator[str]:
    rows, whole = result.rows, result.whole
    if rows.parts >= result.cores or whole is None or whole.elapsed_seconds < _LONG_SECONDS:
        return
    here = f"The input is {count(rows.parts, 'part')}, so no more workers than that have work, on {result.cores} cores."
    most = min(rows.parts_by_group, result.cores)
    if most > rows.parts:
        yield f"{here} A lower input.part_rows (about {rows.rows // most:,}) would make more of it."
    else:
        yield f"{here} It can't be cut further: write the file with more row groups, or more files."


def devices(result: TuneResult) -> Iterator[str]:
    """What another device would make out, or that there is none."""
    best: dict[str, Measurement] = {}
    for one in result.measurements:
        device = one.configuration.device
        best[device] = max(best.get(device, one), one, key=lambda each: each.rows_per_second)
    failed = {one.device: error for one, error in result.failures.items() if one.device not in best}
    for device, error in failed.items():
        yield f"Hardware: {device} could not be measured: {error}"
    others = [device for device in best if device != result.current.device]
    for device in others:
        factor = ratio(best[device], best[result.current.device])
        if factor is not None:
            yield f"Hardware: {device} prepares and infers {factor} as fast as {result.current.device}, each at its best."
    if not others and not failed:
        yield f"Hardware: this machine has nothing but {result.current.device} to compare, with {count(result.cores, 'core')}."
