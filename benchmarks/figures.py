"""The figures: who is compared with whom, and what came of it, from times taken in the same round."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

from benchmarks import accelerator, command_line, growth, ray_parts, rendering
from benchmarks.forward_only import FORWARD_ONLY
from benchmarks.handwritten import DATA_LOADER, PANDAS_LOOP
from benchmarks.job_runs import BARE, LEDGER, MANY_SERIES, MANY_SERIES_UNPUSHED, MONITORED, PUSHES, RECORDS
from benchmarks.limit import LIMIT, TOGETHER
from benchmarks.ray_data import BESIDE_RAY, RAY_DATA
from benchmarks.ray_engine import BY_THREADS, ON_RAY
from benchmarks.rounds import Contender, Timings, of
from benchmarks.sliced import AT_ONCE, GROUPBY_MEANS, HOLDOUT, METRIC_FRAME, SCORED, SKLEARN_LOOP
from benchmarks.workload import DEEP_MLP, ODD_SHAPES, TRANSFORMER, Shape

Span = Literal["scoring", "elapsed", "peak_bytes", "cpu"]
Kind = Literal["ratio", "seconds", "extra seconds"]


class Reach(NamedTuple):
    """What a figure should come to: at least, or at most, `limit`."""

    sign: Literal["≥", "≤"]
    limit: float

    def met(self, value: float) -> bool:
        """Whether the value gets there."""
        return value >= self.limit if self.sign == "≥" else value <= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """What is made of two contenders' times over a span of their runs.

    `ratio`: how many times as fast `measured` is as `against`; what grows is said the other way round: `against` is the
    larger one, so the figure is how many times as much it takes. `seconds`: those of `measured` alone. `extra seconds`:
    those of `measured` less those of `against`. `reach` is None where nothing was promised.
    """

    group: str
    name: str
    meaning: str
    measured: str
    against: str
    reach: Reach | None = None
    span: Span = "scoring"
    kind: Kind = "ratio"


def _least(limit: float) -> Reach:
    return Reach("≥", limit)


def _most(limit: float) -> Reach:
    return Reach("≤", limit)


def _compute_figure(name: str, shape: Shape) -> Figure:
    measured, against = of(MONITORED, shape.name), of(FORWARD_ONLY, shape.name)
    return Figure(COMPUTE, name, f"{shape.name} ÷ forward only", measured, against, _least(0.95))


def _shape_figure(shape: Shape) -> Figure:
    measured, against = of(MONITORED, shape.name), of(LIMIT, shape.name)
    return Figure(SHAPES, f"shape: {shape.name}", "scoring, as a share of its limit", measured, against)


def _accelerated_figures(name: str, shape: Shape) -> tuple[Figure, ...]:
    ours, forward, in_turn = (of(who, shape.name) for who in (MONITORED, FORWARD_ONLY, accelerator.IN_TURN))
    return (
        Figure(ACCELERATOR, f"cuda-{name}", f"{shape.name} ÷ forward only", ours, forward),
        Figure(ACCELERATOR, f"cuda-{name}-overlap", "against copies and forward in turn", ours, in_turn),
    )


SCORING, COMPUTE, MONITORING, GROWTH, SHAPES, QUALITY, COMMANDS, RENDERING, ENGINES, ACCELERATOR = (
    "Scoring, I/O-bound",
    "Scoring, compute-bound",
    "What monitoring costs",
    "Growth",
    "Wide and odd shapes",
    "Sliced quality",
    "The command line",
    "Rendering and pushing",
    "On Ray",
    "On an accelerator",
)
_FRAME_HOLDOUT, _FRAME = of(HOLDOUT, AT_ONCE), of(METRIC_FRAME, AT_ONCE)
_CLI = command_line
_RENDERED = rendering.RENDERED_AND_PUT
FIGURES = (
    Figure(SCORING, "limit", "scoring, as a share of the limit", MONITORED, LIMIT, _least(0.85)),
    Figure(SCORING, "limit-busy", "as a share of what cores reach when all are busy", MONITORED, TOGETHER),
    Figure(SCORING, "limit-shared", "busy cores' limit, as a share of the limit", TOGETHER, LIMIT),
    Figure(SCORING, "pandas", "scoring, against a pandas loop", MONITORED, PANDAS_LOOP, _least(1.3)),
    Figure(SCORING, "dataloader", "scoring, against a DataLoader loop", MONITORED, DATA_LOADER, _least(1.6)),
    Figure(SCORING, "ray-data", "scoring, against Ray Data", BESIDE_RAY, RAY_DATA, _least(6)),
    Figure(SCORING, "whole-run", "from start to end, against a pandas loop", MONITORED, PANDAS_LOOP, span="elapsed"),
    _compute_figure("compute-mlp", DEEP_MLP),
    _compute_figure("compute-transformer", TRANSFORMER),
    Figure(MONITORING, "monitoring", "scoring, monitoring on ÷ off", PUSHES, BARE, _least(0.99)),
    Figure(MONITORING, "monitoring-cpu", "the same, CPU time of all cores", PUSHES, BARE, _least(0.99), "cpu"),
    Figure(MONITORING, "ledger-cpu", "CPU time, with ledger ÷ without", LEDGER, BARE, span="cpu"),
    Figure(MONITORING, "records-cpu", "CPU time, with batch records ÷ without", RECORDS, LEDGER, span="cpu"),
    Figure(MONITORING, "pushes-cpu", "CPU time, with pushes ÷ without", PUSHES, RECORDS, span="cpu"),
    Figure(MONITORING, "many-series", "scoring, 10,000 series pushed ÷ not", MANY_SERIES, MANY_SERIES_UNPUSHED),
    Figure(GROWTH, "memory", "peak memory, ten times the rows", growth.ROWS, growth.TIMES_TEN, _most(1.1), "peak_bytes"),
    Figure(GROWTH, "growth-rows", "seconds a row, ten times the rows", growth.ROWS, growth.TIMES_TEN, _most(1.05)),
    Figure(GROWTH, "growth-parts", "1,000 parts ÷ 10 of the same rows", growth.FEW_PARTS, growth.MANY_PARTS, _most(1.1)),
    *map(_shape_figure, ODD_SHAPES),
    Figure(QUALITY, "metric-frame", "400 slices, against MetricFrame", _FRAME_HOLDOUT, _FRAME, _least(1_000)),
    Figure(QUALITY, "judging", "judging ÷ scoring the same rows", MONITORED, of(HOLDOUT, SCORED), _most(0.03)),
    Figure(QUALITY, "quality", "400 slices, against a scikit-learn loop", HOLDOUT, SKLEARN_LOOP),
    Figure(QUALITY, "quality-groupby", "400 slices, against groupby means", HOLDOUT, GROUPBY_MEANS),
    Figure(COMMANDS, "help", "batchgauge --help, seconds", _CLI.HELP, _CLI.PYTHON, _most(0.35), kind="seconds"),
    Figure(COMMANDS, "list", "batchgauge list of 200 jobs, seconds", _CLI.LIST, _CLI.PYTHON, _most(0.8), kind="seconds"),
    Figure(COMMANDS, "validate", "batchgauge validate, seconds", _CLI.VALIDATE, _CLI.PYTHON, _most(0.8), kind="seconds"),
    Figure(
        COMMANDS, "small-run", "a run of 1,000 rows, extra seconds", _CLI.RUN, _CLI.SCRIPT, _most(0.8), kind="extra seconds"
    ),
    Figure(RENDERING, "rendering", "rendering and PUT ÷ client's encoding", rendering.CLIENT, _RENDERED, _most(1.5)),
    Figure(RENDERING, "rendering-alone", "rendering ÷ client's encoding", rendering.CLIENT, rendering.RENDERED),
    Figure(RENDERING, "rendering-gauges", "and PUT ÷ client's gauges, set, encoded", rendering.CLIENT_GAUGES, _RENDERED),
    Figure(RENDERING, "delivery", "a whole push ÷ client's encoding", rendering.CLIENT, rendering.DELIVERED),
    Figure(ENGINES, "ray-engine", "scoring, on Ray ÷ by threads, same cores", ON_RAY, BY_THREADS, _least(0.9)),
    Figure(ENGINES, "ray-engine-data", "scoring on Ray, against Ray Data", ON_RAY, RAY_DATA, _least(4)),
    Figure(
        ENGINES, "ray-parts", "1,000 empty parts, seconds", ray_parts.ON_RAY, ray_parts.BY_THREADS, _most(2), kind="seconds"
    ),
    Figure(
        ENGINES,
        "ray-memory",
        f"a driver's peak memory, {ray_parts.MANY_PARTS:,} parts ÷ {ray_parts.PARTS:,}",
        ray_parts.FEW,
        ray_parts.MANY,
        _most(1.3),
        "peak_bytes",
    ),
    *_accelerated_figures("mlp", accelerator.SHAPES[0]),
    *_accelerated_figures("transformer", accelerator.SHAPES[1]),
)


@dataclass(frozen=True, slots=True)
class Result:
    """A figure as it came out: one value for each round; none where a contender is `missing`, which says why."""

    figure: Figure
    measured: Contender
    against: Contender
    values: tuple[float, ...]
    best: float | None
    """The same from each contender's best round: what disturbs the machine disturbs it least."""

    @property
    def median(self) -> float | None:
        """The figure itself."""
        return median(self.values) if self.values else None

    @property
    def met(self) -> bool | None:
        """Whether it reaches what was promised; None where nothing was, or nothing was measured."""
        found, reach = self.median, self.figure.reach
        return None if found is None or reach is None else reach.met(found)

    @property
    def missing(self) -> str:
        """Why there are no values; empty where there are."""
        return self.measured.missing or self.against.missing


def result(figure: Figure, timings: Timings) -> Result:
    """The figure, from timings of both contenders; of several variants, the one that did best in these rounds."""

    def spans(contender: Contender) -> list[float]:
        return [getattr(timing, figure.span) for timing in timings[contender]]

    def fastest(name: str) -> Contender:
        able = [one for one in timings if one.name == name]
        return min(able, key=lambda one: median(spans(one)) if spans(one) else 0.0)

    measured, against = fastest(figure.measured), fastest(figure.against)
    if measured.missing or against.missing:
        return Result(figure, measured, against, (), None)
    ours, theirs = spans(measured), spans(against)
    values = tuple(_value(figure.kind, *pair) for pair in zip(ours, theirs, strict=True))
    return Result(figure, measured, against, values, _value(figure.kind, min(ours), min(theirs)))


def _value(kind: Kind, ours: float, theirs: float) -> float:
    if kind == "seconds":
        return ours
    return ours - theirs if kind == "extra seconds" else theirs / ours
