"""The command: `python -m benchmarks [NAME…] [--rows N] [--rounds N] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks import suite, table
from benchmarks.figures import FIGURES, result
from benchmarks.machine import OtherWork
from pipelines.errors import BatchgaugeError

ROWS, ROUNDS = 4_194_304, 5


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON. Returns the exit code."""
    options = _options(arguments)
    figures = [figure for figure in FIGURES if figure.name in options.names or not options.names]
    other_work, started = OtherWork(), perf_counter()

    def say(line: str) -> None:
        seconds = round(perf_counter() - started)
        _say(f"{seconds // 60:3}:{seconds % 60:02}  {line}")

    try:
        with TemporaryDirectory(prefix="batchgauge-bench-") as folder:
            timings = suite.run(figures, rows=options.rows, rounds=options.rounds, folder=Path(folder), say=say)
    except BatchgaugeError as error:
        _say(str(error))
        return 1
    results = [result(figure, timings) for figure in figures]
    taken = {"other_cores": other_work.cores(), "seconds": perf_counter() - started}
    document = table.as_json(results, timings, rows=options.rows, **taken)
    print(table.as_text(document))
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="batchgauge against what people write by hand.")
    names = [figure.name for figure in FIGURES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which figures; default: all of {', '.join(names)}")
    parser.add_argument("--rows", type=_positive, default=ROWS, help="rows to score, and to judge (default: %(default)s)")
    parser.add_argument(
        "--rounds",
        type=_positive,
        default=ROUNDS,
        help="the most rounds; at least five for a figure that counts (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every ratio, time and setting there")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in names]:
        parser.error(f"unknown figure {', '.join(unknown)}; choose from {', '.join(names)}")
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.absolute().parent}")
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, not {text!r}")
    return int(text)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
