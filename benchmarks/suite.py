"""All that some figures need: data, a gateway, contenders; tried once for their answers, then timed in rounds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import (
    accelerator,
    answers,
    command_line,
    forward_only,
    growth,
    handwritten,
    job_runs,
    limit,
    ray_data,
    ray_engine,
    ray_parts,
    rendering,
    workload,
)
from benchmarks.figures import Figure
from benchmarks.forward_only import FORWARD_ONLY
from benchmarks.rounds import Contender, Timings, measure, of, timed
from benchmarks.sliced import AT_ONCE, GROUPBY_MEANS, HOLDOUT, METRIC_FRAME, SCORED, SKLEARN_LOOP, JudgedRows
from benchmarks.workload import COMPUTE_BOUND, ODD_SHAPES, Shape, Workload
from monitoring import servers

Say = Callable[[str], None]
HALF = Shape("half the rows", rows_divisor=2)
_RAY_ROUNDS = 3
"""At most: starting actors takes longer than what they are timed for."""


def run(figures: Sequence[Figure], *, rows: int, rounds: int, folder: Path, say: Say) -> Timings:
    """Time every contender that the figures name, in at most so many rounds. `folder` is empty and takes about 500 bytes a row.

    Raises:
        DifferentAnswers: two contenders did not do the same work; nothing is timed then.
        MissingServer: there is no Pushgateway on this machine.
        RunFailed: batchgauge's run did not end well.

    """
    return _Suite({name for figure in figures for name in (figure.measured, figure.against)}, rows, rounds, folder, say).run()


class _Suite:
    """What is measured, and what has been."""

    def __init__(self, named: set[str], rows: int, rounds: int, folder: Path, say: Say) -> None:
        self._named = named
        self._rows = rows
        self._rounds = rounds
        self._folder = folder
        self._say = say
        self._timings: Timings = {}

    def run(self) -> Timings:
        """One gathering of contenders after the other."""
        self._score()
        for shape in (*COMPUTE_BOUND, *ODD_SHAPES):
            self._score_shape(shape)
        self._watch()
        self._grow()
        self._judge()
        self._command()
        self._render()
        self._score_on_ray()
        for shape in accelerator.SHAPES:
            self._accelerate(shape)
        return self._timings

    def _score(self) -> None:
        """The usual job, by everybody who works in this process."""
        judged, limits = of(HOLDOUT, SCORED), (limit.LIMIT, limit.TOGETHER)
        if self._wants(job_runs.MONITORED, handwritten.PANDAS_LOOP, handwritten.DATA_LOADER, *limits, judged):
            with servers.pushgateway() as gateway, self._made(workload.USUAL) as work:
                contenders = self._chosen(
                    limit.limit(work),
                    limit.together(work),
                    job_runs.monitored(work, gateway),
                    *handwritten.pandas_loops(work),
                    *handwritten.data_loaders(work),
                    *JudgedRows(self._rows, SCORED).contenders(),
                )
                self._try(contenders)
                self._check(work, [one for one in contenders if one.name not in {*limits, judged}])
                self._measure("the usual job", contenders)

    def _score_shape(self, shape: Shape) -> None:
        """A job on rows of a shape, what it is held against, and nothing to compare answers with."""
        ours = of(job_runs.MONITORED, shape.name)
        if self._wants(ours):
            with servers.pushgateway() as gateway, self._made(shape) as work:
                contenders = self._chosen(
                    job_runs.monitored(work, gateway, ours),
                    limit.limit(work, of(limit.LIMIT, shape.name)),
                    *forward_only.forward_only(work, of(FORWARD_ONLY, shape.name)),
                )
                if shape.most_rounds > 1:
                    self._try(contenders)
                self._measure(shape.name, contenders, shape.most_rounds)

    def _watch(self) -> None:
        """The same work with more and more of what watches it: what is to be seen is small, so there are more rounds."""
        names = (job_runs.BARE, job_runs.LEDGER, job_runs.RECORDS, job_runs.PUSHES)
        series = (job_runs.MANY_SERIES, job_runs.MANY_SERIES_UNPUSHED)
        if self._wants(*names, *series):
            with servers.pushgateway() as gateway, self._made(workload.USUAL) as work:
                contenders = self._chosen(*job_runs.watched(work, gateway), *job_runs.with_many_series(work, gateway))
                self._try(contenders)
                self._check(work, contenders)
                self._measure("monitoring", [one for one in contenders if one.name in names], more=2)
                self._measure("many series", [one for one in contenders if one.name in series])

    def _grow(self) -> None:
        """Runs over one file and over ten; in few and many parts with half the rows."""
        wanted = ((growth.ROWS, growth.TIMES_TEN), 1), ((growth.FEW_PARTS, growth.MANY_PARTS), 2)
        for names, divisor in wanted:
            if self._wants(*names):
                with self._made(growth.shape(self._rows, divisor)) as work:
                    contenders = [one for one in growth.contenders(work) if one.name in names]
                    self._measure(f"growth: {names[0]}, {names[1]}", contenders)

    def _judge(self) -> None:
        """The contenders that judge slices, tried and found to say the same; MetricFrame with a quarter of the rows."""
        for names, rows, what in (
            ((HOLDOUT, SKLEARN_LOOP, GROUPBY_MEANS), self._rows, ""),
            ((of(HOLDOUT, AT_ONCE), of(METRIC_FRAME, AT_ONCE)), max(1, self._rows // 4), AT_ONCE),
        ):
            if self._wants(*names):
                judged = JudgedRows(rows, what)
                contenders = [one for one in self._chosen(*judged.contenders()) if one.name in names]
                self._try(contenders)
                answers.check_quality(judged.answers)
                self._measure(f"judging {what}".strip(), contenders)

    def _command(self) -> None:
        cli = command_line
        if self._wants(cli.HELP, cli.LIST, cli.VALIDATE, cli.RUN):
            with servers.pushgateway() as gateway, self._made(workload.FEW_ROWS, rows=cli.ROWS) as work:
                contenders = self._chosen(*cli.contenders(work, gateway.url))
                self._try(contenders)
                self._measure("the command line", contenders)

    def _render(self) -> None:
        if self._wants(rendering.CLIENT):
            folder = self._folder / "rendering"
            folder.mkdir()
            with servers.pushgateway() as gateway:
                contenders = self._chosen(*rendering.contenders(folder, gateway.url))
                self._try(contenders)
                self._measure("rendering", contenders, more=5)

    def _score_on_ray(self) -> None:
        """The usual job with half the rows, by Ray Data and by both engines; then parts without any."""
        jobs = (ray_data.BESIDE_RAY, ray_data.RAY_DATA, ray_engine.ON_RAY, ray_engine.BY_THREADS)
        parts, drivers = (ray_parts.ON_RAY, ray_parts.BY_THREADS), (ray_parts.FEW, ray_parts.MANY)
        if not self._wants(*jobs, *parts, *drivers):
            return
        with servers.pushgateway() as gateway, self._made(HALF) as work, ray_engine.one_node():
            scoring = self._chosen(
                job_runs.monitored(work, gateway, ray_data.BESIDE_RAY), ray_data.ray_data(work), *ray_engine.contenders(work)
            )
            self._try(scoring)
            self._check(work, scoring)
            self._measure("the usual job, on Ray and beside it", scoring)
            empty = self._chosen(*ray_parts.contenders(work))
            self._try(empty)
            self._measure("empty parts", empty, _RAY_ROUNDS)
            self._measure("drivers of empty parts", self._chosen(*ray_parts.drivers(work)), 1)

    def _accelerate(self, shape: Shape) -> None:
        if not self._wants(of(job_runs.MONITORED, shape.name)):
            return
        if accelerator.missing():
            self._measure(shape.name, accelerator.absent(shape))
            return
        with servers.pushgateway() as gateway, self._made(shape) as work:
            contenders = accelerator.contenders(work, gateway)
            self._try(contenders)
            self._measure(shape.name, contenders)

    def _wants(self, *names: str) -> bool:
        return not self._named.isdisjoint(names)

    def _chosen(self, *contenders: Contender) -> list[Contender]:
        return [contender for contender in contenders if contender.name in self._named]

    @contextmanager
    def _made(self, shape: Shape, rows: int | None = None) -> Iterator[Workload]:
        """A workload in a new folder, which is gone at the end: the next one needs the room."""
        self._say(f"making rows: {shape.name}")
        folder = self._folder / f"rows {shape.name}"
        folder.mkdir()
        try:
            yield workload.make(folder, self._rows if rows is None else rows, shape)
        finally:
            shutil.rmtree(folder)

    def _try(self, contenders: Iterable[Contender]) -> None:
        for contender in contenders:
            if not contender.missing:
                self._say(f"warming up: {contender.label}")
                timed(contender)

    def _check(self, work: Workload, writers: Iterable[Contender]) -> None:
        labels = [one.label for one in writers if not one.missing]
        answers.check_predictions({label: work.output(label) for label in labels}, rows=work.rows)

    def _measure(self, title: str, contenders: Sequence[Contender], most: int | None = None, *, more: int = 1) -> None:
        """In as many rounds as were asked for, or `more` times as many; at most `most`. Of nobody, nothing."""
        if not contenders:
            return
        rounds = self._rounds * more
        self._say(f"measuring {title}")
        self._timings |= measure(contenders, rounds if most is None else min(rounds, most), say=self._say)
