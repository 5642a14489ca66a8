"""All that some figures need: data, a gateway, contenders; tried once for their answers, then timed in rounds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks import answers, forward_only, growth, handwritten, job_runs, limit, workload
from benchmarks.figures import COMPUTE_BOUND, FORWARD_ONLY, Figure, of_shape
from benchmarks.rounds import Contender, Timings, measure, timed
from benchmarks.sliced import GROUPBY_MEANS, HOLDOUT, SKLEARN_LOOP, JudgedRows
from benchmarks.workload import ODD_SHAPES, Shape, Workload
from monitoring import servers

Say = Callable[[str], None]


_ROUNDS, _FEW_ROUNDS = 1_000, 5
"""The most rounds: few for what takes long, or was promised nothing."""


def run(figures: Sequence[Figure], *, rows: int, rounds: int, folder: Path, say: Say) -> Timings:
    """Time every contender that the figures name. `folder` is empty and takes about 500 bytes a row.

    Raises:
        DifferentAnswers: two contenders did not do the same work; nothing is timed then.
        MissingServer: there is no Pushgateway on this machine.
        RunFailed: batchgauge's run did not end well.

    """
    named = {name for figure in figures for name in (figure.measured, figure.against)}
    timings: Timings = {}
    for title, most, gathering in _gatherings(named, rows, folder, say):
        with gathering as contenders:
            if contenders:
                say(f"measuring {title}")
                timings |= measure(contenders, min(rounds, most), say=say)
    return timings


Gathering = AbstractContextManager[Sequence[Contender]]


def _gatherings(named: set[str], rows: int, folder: Path, say: Say) -> Iterator[tuple[str, int, Gathering]]:
    """Contenders that take turns, with the most rounds that they get."""
    yield "the usual job", _ROUNDS, _scoring(named, rows, folder, say)
    for shape in (*COMPUTE_BOUND, *ODD_SHAPES):
        yield shape.name, _ROUNDS if shape in COMPUTE_BOUND else _FEW_ROUNDS, _scoring_shape(named, shape, rows, folder, say)
    yield "growth", _FEW_ROUNDS, _growing(named, rows, folder / "growth", say)
    yield "judging", _ROUNDS, _judging(named, rows, say)


@contextmanager
def _scoring(named: set[str], rows: int, folder: Path, say: Say) -> Iterator[Sequence[Contender]]:
    """The contenders that score Parquet, tried and found to write the same."""
    if not named & {job_runs.MONITORED, job_runs.UNMONITORED, handwritten.PANDAS_LOOP, handwritten.DATA_LOADER, limit.LIMIT}:
        yield ()
        return
    with servers.pushgateway() as gateway:
        say(f"making {rows:,} rows")
        work = workload.make(folder, rows)
        contenders = _named(
            named,
            limit.limit(work),
            job_runs.monitored(work, gateway.url),
            job_runs.unmonitored(work),
            *handwritten.pandas_loops(work),
            *handwritten.data_loaders(work),
        )
        _try(contenders, say)
        writers = [contender.label for contender in contenders if contender.name != limit.LIMIT]
        answers.check_predictions({label: work.output(label) for label in writers}, rows=rows)
        yield contenders


@contextmanager
def _scoring_shape(named: set[str], shape: Shape, rows: int, folder: Path, say: Say) -> Iterator[Sequence[Contender]]:
    """Batchgauge on rows of a shape, what it is held against, and nothing to compare answers with."""
    ours = of_shape(job_runs.MONITORED, shape)
    if ours not in named:
        yield ()
        return
    with servers.pushgateway() as gateway, _made(folder / f"shape {shape.name}", rows, shape, say) as work:
        contenders = _named(
            named,
            job_runs.monitored(work, gateway.url, ours),
            limit.limit(work, of_shape(limit.LIMIT, shape)),
            *forward_only.forward_only(work, of_shape(FORWARD_ONLY, shape)),
        )
        _try(contenders, say)
        yield contenders


@contextmanager
def _growing(named: set[str], rows: int, folder: Path, say: Say) -> Iterator[Sequence[Contender]]:
    """Runs over one file and over ten."""
    if not named & {growth.ROWS, growth.TIMES_TEN, growth.FEW_PARTS, growth.MANY_PARTS}:
        yield ()
        return
    shape = Shape("growth", group_rows=-(-rows // growth.GROUPS))
    with _made(folder, rows, shape, say) as work:
        yield _named(named, *growth.contenders(work))


@contextmanager
def _judging(named: set[str], rows: int, say: Say) -> Iterator[Sequence[Contender]]:
    """The contenders that judge slices, tried and found to say the same."""
    if not named & {HOLDOUT, SKLEARN_LOOP, GROUPBY_MEANS}:
        yield ()
        return
    judged = JudgedRows(rows)
    contenders = _named(named, *judged.contenders())
    _try(contenders, say)
    answers.check_quality(judged.answers)
    yield contenders


@contextmanager
def _made(folder: Path, rows: int, shape: Shape, say: Say) -> Iterator[Workload]:
    """A workload in a new folder, which is gone at the end: the next one needs the room."""
    say(f"making rows: {shape.name}")
    folder.mkdir()
    try:
        yield workload.make(folder, rows, shape)
    finally:
        shutil.rmtree(folder)


def _named(names: set[str], *contenders: Contender) -> list[Contender]:
    return [contender for contender in contenders if contender.name in names]


def _try(contenders: Iterable[Contender], say: Say) -> None:
    for contender in contenders:
        say(f"warming up: {contender.label}")
        timed(contender)
