"""The command `python -m benchmarks.ray_long [--files N]`: a job of a minute or more, on Ray and by threads, in turn.

The usual job's file by many names, so that it takes long without taking room. Printed are seconds without what starting costs
(workers, Ray's connection, the models' loads) and with it, and the shares of them: above 1 Ray was faster.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import ray_engine, workload
from benchmarks.ray_engine import BY_THREADS, ON_RAY
from benchmarks.rounds import Contender, Timing, measure

_ROWS = 4_194_304


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_long", description="A long job on Ray and by threads.")
    parser.add_argument("--files", type=int, default=40, help=f"files of {_ROWS:,} rows each (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of both (default: %(default)s)")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="batchgauge-bench-") as folder, ray_engine.one_node():
        long = workload.make(Path(folder), _ROWS)
        for number in range(1, options.files):
            os.link(long.input, long.input.with_name(f"rows {number}.parquet"))
        both = [contender for contender in ray_engine.contenders(long) if contender.name in {ON_RAY, BY_THREADS}]
        timings = measure(both, options.rounds, say=print)
    for contender, found in timings.items():
        print(f"{contender.name}: {_said(found)}")
    for what, shares in _shares(timings).items():
        print(f"{what}: {median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})")


def _said(timings: Sequence[Timing]) -> str:
    scoring, elapsed = (median(getattr(timing, name) for timing in timings) for name in ("scoring", "elapsed"))
    return f"{scoring:.1f} s of scoring, {elapsed:.1f} s from start to end"


def _shares(timings: dict[Contender, list[Timing]]) -> dict[str, list[float]]:
    on_ray, by_threads = (next(found for one, found in timings.items() if one.name == name) for name in (ON_RAY, BY_THREADS))
    pairs = list(zip(by_threads, on_ray, strict=True))
    return {
        "threads ÷ Ray, start-up excluded": [threads.scoring / ray.scoring for threads, ray in pairs],
        "threads ÷ Ray, start-up included": [threads.elapsed / ray.elapsed for threads, ray in pairs],
    }


if __name__ == "__main__":
    main()
