"""The benchmarks do what they say: the same work for everybody, every figure, in rounds. Nothing here asserts a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import answers, growth, suite, table, workload
from benchmarks.__main__ import main
from benchmarks.answers import DifferentAnswers
from benchmarks.figures import FIGURES, Figure, result
from benchmarks.rounds import Contender, Timing, Timings, measure
from benchmarks.sliced import JudgedRows
from monitoring import servers

ROWS = 3_000
GROWTH = [figure for figure in FIGURES if figure.name in {"memory", "growth-rows", "growth-parts"}]
TRIED = [figure for figure in FIGURES if not figure.name.startswith("shape") or figure.name == "shape: images"]
TRIED = [figure for figure in TRIED if figure not in GROWTH]


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


def test_all_contenders_write_the_same_predictions(folder: Path, timings: Timings) -> None:
    """Each has its own output, with every row once, and what it says is what the model says."""
    outputs = sorted(path.name for path in (folder / "scored").iterdir())
    writers = [contender.label for contender in timings if contender.name in {"batchgauge", "pandas loop", "DataLoader"}]
    assert outputs == sorted([*writers, "batchgauge unmonitored"])
    wanted = expected(folder)
    for name in outputs:
        output = pq.read_table(folder / "scored" / name, partitioning=None).sort_by("id")
        assert output["id"].to_pylist() == list(range(ROWS)), name
        assert np.abs(output["score"].to_numpy() - wanted).max() < 1e-5, name
        assert (output["prediction"].to_numpy() == (output["score"].to_numpy() >= 0.5)).all(), name


def test_the_json_has_every_figure_and_every_contender(timings: Timings) -> None:
    """With the ratio of each round, what was compared, and the settings."""
    results = [result(figure, timings) for figure in TRIED]
    document = json.loads(json.dumps(table.as_json(results, timings, rows=ROWS, rounds=1, other_cores=0.0)))
    assert list(document["figures"]) == [figure.name for figure in TRIED]
    assert {"pandas", "limit", "compute-mlp", "compute-transformer", "quality"} < set(document["figures"])
    for figure in document["figures"].values():
        assert len(figure["ratios"]) == 1
        assert figure["min"] == figure["median"] == figure["max"] > 0
        assert {figure["measured"], figure["against"]} <= set(document["contenders"])
    for contender in document["contenders"].values():
        assert contender["settings"]
        assert len(contender["scoring_seconds"]) == 1


def test_the_table_has_a_line_for_every_figure(timings: Timings) -> None:
    """Name first; all lines are of one width."""
    lines = table.as_text([result(figure, timings) for figure in TRIED]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [figure.name for figure in TRIED]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.timeout(400)
def test_growth_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    """Each with its own memory; times are for each row; a thousand parts are a thousand files."""
    timings = suite.run(GROWTH, rows=400, rounds=1, folder=tmp_path, say=lambda _: None)
    assert {contender.name for contender in timings} == {growth.ROWS, growth.TIMES_TEN, growth.FEW_PARTS, growth.MANY_PARTS}
    assert all(found[0].peak_bytes > 2**20 and 0 < found[0].scoring < 1 for found in timings.values())
    assert len({found[0].peak_bytes for found in timings.values()}) > 1
    assert all(len(result(figure, timings).ratios) == 1 for figure in GROWTH)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", workload.ODD_SHAPES, ids=lambda shape: shape.name)
def test_a_workload_has_each_row_once_in_its_shape(tmp_path: Path, shape: workload.Shape) -> None:
    """In as many files as it says, for a model that takes them."""
    work = workload.make(tmp_path, 300 * shape.rows_divisor, shape)
    tables = [pq.read_table(path, partitioning=None) for path in work.inputs]
    assert len(tables) == shape.files
    assert [row for one in tables for row in one["id"].to_pylist()] == list(range(300))
    assert len(tables[0].column_names) == 1 + (1 if shape.images else shape.columns)
    assert work.model()(work.batch(2)).shape == (2, 2)


def test_one_figure_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command measures what it is asked for, prints it and writes it."""
    file = tmp_path / "figures.json"
    assert main(["quality-groupby", "--rows", str(ROWS), "--rounds", "2", "--json", str(file)]) == 0
    document = json.loads(file.read_text())
    assert list(document["figures"]) == ["quality-groupby"]
    assert list(document["contenders"]) == ["holdout", "groupby means"]
    assert (document["rows"], document["rounds"]) == (ROWS, 2)
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
    scoring = result(Figure("one", "", "ours", "theirs"), timings)
    assert (scoring.ratios, scoring.median, scoring.against.label) == ((3, 2, 5), 3, "theirs, fast")
    assert result(Figure("two", "", "ours", "theirs", "elapsed"), timings).ratios == (4, 2, 4)


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
    """All three ways to judge slices agree; a figure that is off, or a slice that is missing, is found."""
    judged = JudgedRows(ROWS)
    for contender in judged.contenders():
        contender.run()
    answers.check_quality(judged.answers)
    found = dict(judged.answers["groupby means"])
    value, (accuracy, recall) = next(iter(found.items()))
    for wrong in ((accuracy, None if recall else 1.0), ((accuracy or 0) + 1e-6, recall)):
        with pytest.raises(DifferentAnswers, match=value):
            answers.check_quality({**judged.answers, "wrong": {**found, value: wrong}})
    with pytest.raises(DifferentAnswers, match="slices"):
        answers.check_quality({**judged.answers, "fewer": {key: found[key] for key in found if key != value}})
