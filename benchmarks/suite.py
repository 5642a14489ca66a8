"""All that some figures need: data, a gateway, contenders; tried once for their answers, then timed in rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import answers, handwritten, job_runs, limit, workload
from benchmarks.figures import Figure
from benchmarks.rounds import Contender, Timings, measure, timed
from benchmarks.sliced import GROUPBY_MEANS, HOLDOUT, SKLEARN_LOOP, JudgedRows
from monitoring import servers

Say = Callable[[str], None]


def run(figures: Sequence[Figure], *, rows: int, rounds: int, folder: Path, say: Say) -> Timings:
    """Time every contender that the figures name. `folder` is empty and takes about 130 bytes a row.

    Raises:
        DifferentAnswers: two contenders did not do the same work; nothing is timed then.
        MissingServer: there is no Pushgateway on this machine.
        RunFailed: batchgauge's run did not end well.

    """
    named = {name for figure in figures for name in (figure.measured, figure.against)}
    with _scoring(named, rows, folder, say) as scoring, _judging(named, rows, say) as judging:
        return measure([*scoring, *judging], rounds, say=say)


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


def _named(names: set[str], *contenders: Contender) -> list[Contender]:
    return [contender for contender in contenders if contender.name in names]


def _try(contenders: Iterable[Contender], say: Say) -> None:
    for contender in contenders:
        say(f"warming up: {contender.label}")
        timed(contender)
