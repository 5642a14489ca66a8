"""From measurements to advice. Pure: every sentence follows from the figures, and none is given that they don't bear out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jobs.summary import seconds
from jobs.tune.request import Tuned
from pipelines.measuring import Configuration, Measurement
from pipelines.report import Stage

_WORTH_SAYING = 0.05
"""Gains below that are not worth a line in a job file."""
_LARGE_SHARE, _SMALL_SHARE = 0.5, 0.3
_SMALL_GROUP_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Advice:
    """What to set: `settings` are lines for the job file (section, key, TOML value); none when there is nothing to change.

    `best` is the fastest within the bound; None when nothing measured is within it.
    """

    best: Measurement | None
    settings: tuple[tuple[str, str, str], ...]
    sentences: tuple[str, ...]


def advise(tuned: Tuned) -> Advice:
    """What the measurements say."""
    best = _best(tuned)
    change = best is not None and best is not tuned.current and _surely_faster(best, tuned.current, tuned.bound_seconds)
    sentences = [
        *_bound(tuned, best),
        *(_change(tuned, best) if change and best else _no_change(tuned, best)),
        *_batches(tuned),
        *_workers(tuned),
        *_where_the_time_goes(tuned, best or tuned.current),
    ]
    return Advice(best, tuple(_settings(tuned, best)) if change and best else (), tuple(sentences))


def within(measurement: Measurement, bound_seconds: float | None) -> bool:
    """Whether 95 % of its batches took no longer than the bound; without one, always."""
    return bound_seconds is None or measurement.latency(0.95) <= bound_seconds


def gain(faster: Measurement, slower: Measurement) -> tuple[float, float]:
    """The smallest and the largest ratio of throughputs, round by round: what disturbed a round disturbed both."""
    ratios = [
        one.throughput / other.throughput for one, other in zip(faster.passes, slower.passes, strict=False) if other.throughput
    ]
    return (min(ratios), max(ratios)) if ratios else (1.0, 1.0)


def _best(tuned: Tuned) -> Measurement | None:
    """The fastest that is within the bound; of those that can't be told apart from it, the one with the smallest batches."""
    candidates = [one for one in tuned.measurements if within(one, tuned.bound_seconds)]
    if not candidates:
        return None
    fastest = max(candidates, key=lambda one: one.throughput)
    alike = [one for one in candidates if len(one.passes) > 1 and _alike(one, fastest)]
    return min(alike or [fastest], key=lambda one: (one is not tuned.current, one.configuration.batch_rows))


def _alike(one: Measurement, fastest: Measurement) -> bool:
    return one is fastest or gain(fastest, one)[0] <= 1


def _surely_faster(best: Measurement, current: Measurement, bound_seconds: float | None) -> bool:
    """In every round, and by enough; or it is within a bound that the current one breaks."""
    if not within(current, bound_seconds):
        return True
    return len(best.passes) > 1 and gain(best, current)[0] > 1 and best.throughput / current.throughput >= 1 + _WORTH_SAYING


def _bound(tuned: Tuned, best: Measurement | None) -> Iterator[str]:
    bound, now = tuned.bound_seconds, tuned.current.latency(0.95)
    if bound is None:
        return
    kept = "within" if now <= bound else "over"
    yield f"A batch takes {seconds(now)} now (95 % of them), {kept} the bound of {seconds(bound)}."
    if best is None:
        yield "Nothing that was measured keeps to it, however few the rows: the model or the device must be faster."
        return
    fastest = max(tuned.measurements, key=lambda one: one.throughput)
    more, rows = fastest.throughput / best.throughput - 1, fastest.configuration.batch_rows
    if not within(fastest, bound) and more >= _WORTH_SAYING:
        each = seconds(fastest.latency(0.95))
        yield f"The bound costs {more:.0%} of speed: batches of {rows:,} rows are faster in sum, and take {each} each."


def _change(tuned: Tuned, best: Measurement) -> Iterator[str]:
    low, high = gain(best, tuned.current)
    ratio = best.throughput / tuned.current.throughput
    then, now = seconds(best.latency(0.95)), seconds(tuned.current.latency(0.95))
    yield (
        f"{_spelled(best.configuration)}: {ratio:.2f} times as fast as now ({low:.2f} to {high:.2f} over"
        f" {len(best.passes)} rounds); a batch takes {then} then, {now} now."
    )


def _no_change(tuned: Tuned, best: Measurement | None) -> Iterator[str]:
    if best is None:
        return
    noise = max(tuned.current.spread, best.spread)
    used = "what auto chooses" if tuned.automatic else "what the job file says"
    yield f"Nothing to change: nothing measured is surely faster than {used} (rounds differ by up to {noise:.0%})."


def _batches(tuned: Tuned) -> Iterator[str]:
    """What the size of a batch makes out, with all else as it is."""
    same = _along(tuned, batch_rows=True)
    smallest, fastest = same[0], max(same, key=lambda one: one.throughput)
    ratio = fastest.throughput / smallest.throughput if smallest.throughput else 1.0
    if fastest is smallest or ratio < 1 + _WORTH_SAYING:
        return
    few, many = smallest.configuration.batch_rows, fastest.configuration.batch_rows
    yield f"Batching: with {many:,} rows in a batch it is {ratio:.1f} times as fast as with {few:,}."
    largest = same[-1]
    if largest.throughput < fastest.throughput * (1 - _WORTH_SAYING):
        rows, share = largest.configuration.batch_rows, largest.throughput / fastest.throughput
        yield f"Larger ones are slower again: with {rows:,} it does {share:.0%} of that."


def _workers(tuned: Tuned) -> Iterator[str]:
    """What more workers make out, with all else as it is."""
    same = sorted(_along(tuned, batch_rows=False), key=lambda one: one.configuration.workers)
    one, most = same[0], same[-1]
    if one is not most and one.throughput:
        ratio, times, threads = most.throughput / one.throughput, most.configuration.workers, one.configuration.kernel_threads
        yield f"Workers: {times} are {ratio:.1f} times as fast as one with {threads} threads in its kernels."
    elif tuned.parts == 1 and tuned.cores > 1:
        yield "Workers: the data is one part, so one does it all; more files, or fewer input.part_rows, keep more busy."


def _along(tuned: Tuned, *, batch_rows: bool) -> list[Measurement]:
    """The measurements that differ from the current one in the rows of a batch only, or in the workers only, in order."""
    now = tuned.current.configuration

    def same(one: Configuration) -> bool:
        if one.device != now.device:
            return False
        return one.workers == now.workers if batch_rows else one.batch_rows == now.batch_rows

    return sorted((one for one in tuned.measurements if same(one.configuration)), key=lambda one: one.configuration.batch_rows)


def _where_the_time_goes(tuned: Tuned, measured: Measurement) -> Iterator[str]:
    shares = measured.shares
    if not shares:
        return
    infer = shares[Stage.INFER]
    yield f"Where the time goes then: {', '.join(f'{stage} {share:.0%}' for stage, share in shares.items())}."
    limit = f"at most {1 / (1 - infer):.1f} times as fast" if infer < 1 else "as much faster as it is itself"
    if infer >= _LARGE_SHARE:
        yield f"Hardware: inference is most of it: a faster device, or a smaller model, makes the whole {limit}."
    elif infer >= _SMALL_SHARE:
        yield f"Hardware: a faster device for inference makes the whole {limit}."
    else:
        yield f"Hardware: inference is not what takes the time: a faster device makes the whole {limit}."
    yield from _beside_inference(tuned, shares)


def _beside_inference(tuned: Tuned, shares: Mapping[Stage, float]) -> Iterator[str]:
    read, prepare, write = (shares[stage] for stage in (Stage.READ, Stage.PREPARE, Stage.WRITE))
    if read >= _SMALL_SHARE:
        small = tuned.group_rows < _SMALL_GROUP_ROWS
        groups = f"larger row groups ({tuned.group_rows:,} rows are few), " if small else ""
        yield f"Reading takes {read:.0%}: {groups}fewer or narrower columns, or a lighter compression make it faster."
    if prepare >= _SMALL_SHARE:
        yield f"Preparing takes {prepare:.0%}: features stored as input.dtype, without nulls, need the least of it."
    if write >= _SMALL_SHARE:
        yield f"Writing takes {write:.0%}: fewer output.columns or another output.compression make it faster."


def _settings(tuned: Tuned, best: Measurement) -> Iterator[tuple[str, str, str]]:
    """Only what differs from what a run does now."""
    chosen, now = best.configuration, tuned.current.configuration
    if chosen.device != now.device:
        yield "model", "device", f'"{chosen.device}"'
    if chosen.batch_rows != now.batch_rows:
        yield "batch", "rows", str(chosen.batch_rows)
    if chosen.workers != now.workers:
        yield "batch", "workers", str(chosen.workers)


def _spelled(configuration: Configuration) -> str:
    workers = f"{configuration.workers} worker{'' if configuration.workers == 1 else 's'}"
    return f"Batches of {configuration.batch_rows:,} rows with {workers} on {configuration.device}"


def in_order(measurements: Sequence[Measurement]) -> list[Measurement]:
    """As a table has them: by device, workers, and rows."""
    return sorted(
        measurements,
        key=lambda one: (one.configuration.device, one.configuration.workers, one.configuration.batch_rows),
    )
