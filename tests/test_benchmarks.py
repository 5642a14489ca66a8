"""The benchmarks do what they say: the same work for everybody, every figure, in rounds. Nothing here asserts a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import (
    accelerator,
    answers,
    command_line,
    growth,
    handwritten,
    job_runs,
    ray_data,
    ray_engine,
    ray_parts,
    suite,
    table,
    workload,
)
from benchmarks.__main__ import ROWS as ROWS_BY_DEFAULT
from benchmarks.__main__ import main
from benchmarks.answers import DifferentAnswers
from benchmarks.figures import FIGURES, Figure, Reach, Result, result
from benchmarks.rounds import Contender, Timing, Timings, measure
from benchmarks.sliced import JudgedRows
from monitoring import exposition, servers
from monitoring.ledger import Ledger

ROWS = 3_000
GROWTH = [figure for figure in FIGURES if figure.group == "Growth"]
COMMANDS = [figure for figure in FIGURES if figure.group == "The command line"]
TRIED = [figure for figure in FIGURES if not figure.name.startswith("shape") or figure.name == "shape: images"]
TRIED = [figure for figure in TRIED if figure not in (*GROWTH, *COMMANDS)]
TRIED = [figure for figure in TRIED if figure.name not in {"ray-data", "ray-engine-data", "ray-memory"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def timings(folder: Path) -> Timings:
    """All figures but those that only differ in the rows' shape, tiny, one round, with a real Pushgateway."""
    return suite.run(TRIED, rows=ROWS, rounds=1, folder=folder, say=lambda _: None)


def expected(folder: Path) -> np.ndarray:
    """The positive class's probability of every row, by nothing but torch."""
    rows = pq.read_table(folder / "input").select(workload.FEATURES)
    model = workload.Workload(folder, ROWS, ROWS).model()
    with torch.inference_mode():
        logits = model(torch.from_numpy(np.column_stack([column.to_numpy() for column in rows.columns])))
    return torch.softmax(logits, dim=1)[:, 1].numpy()


def check_predictions(output: Path, wanted: np.ndarray) -> None:
    """Every row is there once, and what it says is what the model says."""
    rows = pq.read_table(output, partitioning=None).sort_by("id")
    assert rows["id"].to_pylist() == list(range(len(wanted))), output.name
    assert np.abs(rows["score"].to_numpy() - wanted).max() < 1e-5, output.name
    assert (rows["prediction"].to_numpy() == (rows["score"].to_numpy() >= 0.5)).all(), output.name


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> workload.Workload:
    return workload.make(tmp_path_factory.mktemp("work"), ROWS)


def test_whoever_scores_writes_what_the_model_says(work: workload.Workload) -> None:
    """By hand, and monitored more and more: with the model's own output for every row."""
    wanted = expected(work.folder)
    by_hand = (*handwritten.pandas_loops(work), *handwritten.data_loaders(work))
    with servers.pushgateway() as gateway:
        ours = (job_runs.monitored(work, gateway), *job_runs.watched(work, gateway), *job_runs.with_many_series(work, gateway))
        for contender in (*by_hand, *ours):
            contender.run()
            check_predictions(work.output(contender.label), wanted)


@pytest.mark.timeout(300)
def test_ray_data_writes_what_the_model_says(work: workload.Workload) -> None:
    """In a Ray of its own, timed from when its actors are ready: that is less than all of it."""
    contender = ray_data.ray_data(work)
    assert not contender.missing, contender.missing
    timing = contender.run()
    check_predictions(work.output(contender.label), expected(work.folder))
    assert 0 < timing.scoring < timing.elapsed


@pytest.mark.timeout(300)
def test_a_drivers_memory_is_that_of_a_process_of_its_own(work: workload.Workload) -> None:
    """It drives the Ray that is there, and says what it took at most."""
    with ray_engine.one_node():
        contender = ray_parts.driver(work, "a driver's process", 70)
        assert not contender.missing, contender.missing
        timing = contender.run()
    assert timing.peak_bytes > 2**20
    assert 0 < timing.scoring < timing.elapsed
    with Ledger.open(work.folder / "a driver's process state" / "ledger.db") as ledger:
        assert ledger.runs("a driver's process")[0].rows_read == 70 * 4096


def test_a_job_of_many_series_has_them(work: workload.Workload) -> None:
    """Once it has judged its holdouts, as many as are shown at most, or nearly."""
    with servers.pushgateway() as gateway:
        pushed, _ = job_runs.with_many_series(work, gateway)
        pushed.run()
    with Ledger.open(work.folder / f"{pushed.name} state" / "ledger.db") as ledger:
        shown = exposition.render(ledger.state(pushed.name), pushed_at=0.0)
    assert 9_990 < sum(not line.startswith(b"#") for line in shown.splitlines()) <= 10_000


@pytest.mark.timeout(300)
def test_the_json_has_every_figure_and_every_contender(timings: Timings) -> None:
    """With the value of each round, what was compared, and the settings; what can't run here says why."""
    document = document_of(TRIED, timings)
    assert list(document["figures"]) == [figure.name for figure in TRIED]
    for figure in document["figures"].values():
        assert {figure["measured"], figure["against"]} <= set(document["contenders"])
        if figure["missing"]:
            assert (figure["values"], figure["median"], figure["met"]) == ([], None, None)
        else:
            assert figure["values"]
            assert 0 < figure["min"] <= figure["median"] <= figure["max"]
            assert (figure["met"] is None) == (figure["reach"] == "")
    for contender in document["contenders"].values():
        assert contender["missing"] or (contender["settings"] and contender["scoring_seconds"])


def test_the_table_has_a_line_for_every_figure(timings: Timings) -> None:
    """By groups, name first; all tables are of one width; a missed reach can't be overlooked."""
    text = table.as_text(document_of(TRIED, timings))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    named = [line.split("|")[1].strip() for line in lines]
    assert [name for name in named if name != "figure" and not name.startswith("-")] == [figure.name for figure in TRIED]
    assert len({len(line) for line in lines}) == 1
    assert [group for group in dict.fromkeys(figure.group for figure in TRIED) if f"**{group}**" not in text] == []


def document_of(figures: Sequence[Figure], timings: Timings) -> dict[str, Any]:
    results = [result(figure, timings) for figure in figures]
    document = table.as_json(results, timings, rows=ROWS, other_cores=0.0, seconds=60.0)
    return dict(json.loads(json.dumps(document)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_without_an_accelerator_its_figures_say_so(timings: Timings) -> None:
    """No number stands in for what was not measured."""
    figures = [figure for figure in FIGURES if figure.group == "On an accelerator"]
    assert len(figures) == 2 * len(accelerator.SHAPES)
    text = table.as_text(document_of(figures, timings))
    assert text.count("not measured: no CUDA device here") == len(figures)


@pytest.mark.timeout(300)
def test_the_command_line_is_timed_as_real_processes(tmp_path: Path) -> None:
    """All of them end well; the ledger that is listed knows as many jobs as it says."""
    timings = suite.run(COMMANDS, rows=ROWS, rounds=1, folder=tmp_path, say=lambda _: None)
    assert all(result(figure, timings).median is not None for figure in COMMANDS)
    command_line.fill(tmp_path / "jobs.db")
    with Ledger.open(tmp_path / "jobs.db") as ledger:
        assert len(ledger.jobs()) == command_line.JOBS


@pytest.mark.timeout(400)
def test_growth_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    """Each with its own memory; times are for each row; a thousand parts are a thousand files."""
    timings = suite.run(GROWTH, rows=400, rounds=1, folder=tmp_path, say=lambda _: None)
    assert {contender.name for contender in timings} == {growth.ROWS, growth.TIMES_TEN, growth.FEW_PARTS, growth.MANY_PARTS}
    assert all(found[0].peak_bytes > 2**20 and 0 < found[0].scoring < 1 for found in timings.values())
    assert len({found[0].peak_bytes for found in timings.values()}) > 1
    assert all(len(result(figure, timings).values) == 1 for figure in GROWTH)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", workload.ODD_SHAPES, ids=lambda shape: shape.name)
def test_a_workload_has_each_row_once_in_its_shape(tmp_path: Path, shape: workload.Shape) -> None:
    """In as many files as it says, compressed and grouped so, for a model that takes them."""
    shape = replace(shape, files=min(shape.files, 100))
    work = workload.make(tmp_path, 300 * shape.rows_divisor, shape)
    tables = [pq.read_table(path, partitioning=None) for path in work.inputs]
    assert len(tables) == shape.files
    assert [row for one in tables for row in one["id"].to_pylist()] == list(range(300))
    assert len(tables[0].column_names) == 1 + (1 if shape.images else shape.columns)
    assert pa.types.is_fixed_size_list(tables[0].schema.types[1]) == shape.images
    footer = pq.read_metadata(work.input)
    assert footer.row_group(0).column(1).compression == {"none": "UNCOMPRESSED"}.get(
        shape.compression, shape.compression.upper()
    )
    assert footer.row_group(0).num_rows <= work.group_rows
    assert work.model()(work.batch(2)).shape == (2, 2)


@pytest.mark.parametrize("shape", workload.ODD_SHAPES, ids=lambda shape: shape.name)
def test_at_full_size_row_groups_are_as_large_as_they_should_be(shape: workload.Shape) -> None:
    """A shape that is about its row groups, or its files, has enough rows for them."""
    rows = ROWS_BY_DEFAULT // shape.rows_divisor
    assert rows // shape.files >= 1
    assert shape.files > 1 or shape.group_rows <= rows // shape.least_groups


def test_one_figure_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command measures what it is asked for, prints it and writes it."""
    file = tmp_path / "figures.json"
    assert main(["quality-groupby", "--rows", str(ROWS), "--rounds", "2", "--json", str(file)]) == 0
    document = json.loads(file.read_text())
    assert list(document["figures"]) == ["quality-groupby"]
    assert list(document["contenders"]) == ["holdout", "groupby means"]
    assert document["rows"] == ROWS
    assert len(document["figures"]["quality-groupby"]["values"]) == 2
    assert "quality-groupby" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["speed"], ["--rows", "0"], ["--rounds", "-1"], ["--json", "no/such/folder/f.json"]])
def test_what_cannot_be_measured_is_refused_at_once(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the words name what is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_without_a_gateway_it_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Monitoring is not measured against nothing."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("BATCHGAUGE_TOOLS", raising=False)
    monkeypatch.setattr(servers, "_TOOLS", tmp_path)
    assert main(["monitoring", "--rows", "100", "--rounds", "1"]) == 1
    assert "pushgateway" in capsys.readouterr().err


def test_rounds_give_everybody_every_place() -> None:
    """Each contender runs once in each round, and none always after the same one."""
    ran: list[str] = []

    def contender(name: str) -> Contender:
        def run() -> Timing:
            ran.append(name)
            return Timing(float(len(ran)), float(len(ran)))

        return Contender(name, "counts", run)

    found = measure([contender(name) for name in "abc"], 3, say=lambda _: None)
    assert ["".join(ran[first : first + 3]) for first in (0, 3, 6)] == ["abc", "acb", "cab"]
    assert {one.name: [timing.scoring for timing in timings] for one, timings in found.items()} == {
        "a": [1, 4, 8],
        "b": [2, 6, 9],
        "c": [3, 5, 7],
    }


def test_a_figure_pairs_the_times_of_one_round() -> None:
    """Theirs ÷ ours, against the variant that did best, over the span that the figure says."""

    def contender(name: str, variant: str = "") -> Contender:
        return Contender(name, "", lambda: Timing(0, 0), variant)

    timings: Timings = {
        contender("ours"): [Timing(1, 2), Timing(2, 4), Timing(1, 2)],
        contender("theirs", "slow"): [Timing(9, 9)] * 3,
        contender("theirs", "fast"): [Timing(3, 8), Timing(4, 8), Timing(5, 8)],
    }

    def found(**changes: Any) -> Result:
        return result(replace(Figure("group", "one", "", "ours", "theirs"), **changes), timings)

    scoring = found()
    assert (scoring.values, scoring.median, scoring.best, scoring.against.label) == ((3, 2, 5), 3, 3, "theirs, fast")
    assert found(span="elapsed").values == (4, 2, 4)
    assert found(kind="seconds").values == (1, 2, 1)
    assert found(kind="extra seconds").values == (-2, -2, -4)
    assert [found(reach=Reach(sign, 3)).met for sign in ("≥", "≤")] == [True, True]
    assert [found(reach=Reach("≥", 3.1)).met, found(reach=Reach("≤", 2.9)).met, found().met] == [False, False, None]


def test_what_is_missing_has_no_figure() -> None:
    """It is not run, and the result says why."""

    def run() -> Timing:
        raise AssertionError("it can't run")

    here, gone = Contender("here", "", lambda: Timing(1, 1)), Contender("gone", "", run, missing="not installed")
    timings = measure([here, gone], 2, say=lambda _: None)
    found = result(Figure("group", "one", "", "here", "gone", Reach("≥", 1)), timings)
    assert (found.values, found.median, found.best, found.met, found.missing) == ((), None, None, None, "not installed")


def write(folder: Path, rows: dict[str, list[float]]) -> Path:
    folder.mkdir()
    pq.write_table(pa.table(rows), folder / "predictions.parquet")
    return folder


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"id": [0, 1, 1], "prediction": [0, 1, 1], "score": [0.1, 0.9, 0.9]}, "each of the 3 rows once"),
        ({"id": [0, 1], "prediction": [0, 1], "score": [0.1, 0.9]}, "each of the 3 rows once"),
        ({"id": [0, 1, 2], "prediction": [0, 1, 1], "score": [0.1, 0.8, 0.7]}, "scores differ"),
        ({"id": [0, 1, 2], "prediction": [0, 1, 1], "score": [0.1, float("nan"), 0.7]}, "scores differ"),
        ({"id": [0, 1, 2], "prediction": [0, 0, 1], "score": [0.1, 0.9, 0.7]}, "1 predictions differ"),
    ],
)
def test_other_predictions_are_no_answer(tmp_path: Path, other: dict[str, list[float]], words: str) -> None:
    """A row twice, a row missing, another score or another class: no time is worth anything then."""
    good = write(tmp_path / "good", {"id": [0, 1, 2], "prediction": [0, 1, 1], "score": [0.1, 0.9, 0.7]})
    answers.check_predictions({"good": good, "same": good}, rows=3)
    with pytest.raises(DifferentAnswers, match=words):
        answers.check_predictions({"good": good, "other": write(tmp_path / "other", other)}, rows=3)


def test_rounding_at_the_threshold_is_the_same_answer(tmp_path: Path) -> None:
    """Another batch size may turn a row whose score is the threshold itself."""
    one = write(tmp_path / "one", {"id": [0], "prediction": [1], "score": [0.5]})
    other = write(tmp_path / "other", {"id": [0], "prediction": [0], "score": [0.499999]})
    answers.check_predictions({"one": one, "other": other}, rows=1)


def test_other_figures_of_a_slice_are_no_answer() -> None:
    """All ways to judge slices agree, MetricFrame's too; a figure that is off, or a slice that is missing, is found."""
    judged = JudgedRows(ROWS)
    for contender in judged.contenders():
        assert not contender.missing, contender.missing
        contender.run()
    answers.check_quality(judged.answers)
    found = dict(judged.answers["groupby means"])
    value, (accuracy, recall) = next(iter(found.items()))
    for wrong in ((accuracy, None if recall else 1.0), ((accuracy or 0) + 1e-6, recall)):
        with pytest.raises(DifferentAnswers, match=value):
            answers.check_quality({**judged.answers, "wrong": {**found, value: wrong}})
    with pytest.raises(DifferentAnswers, match="slices"):
        answers.check_quality({**judged.answers, "fewer": {key: found[key] for key in found if key != value}})
